"""The `SourceCarriedOver` events that give a forked run what it inherited, when its source is deleted. Pure.

The inherited state is split into as many events as needed to keep each well under the event size limit.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct, field, structs

from engine.codec import derived_id, in_parts
from engine.events import SourceCarriedOver
from engine.model import AttemptLog, CarriedStep, Parameter, StepLog
from engine.names import ROOT
from engine.ports import FromSource

PART_BYTES_MAX: Final = 256 * 1024


class _Part(Struct):
    values: dict[str, Parameter] = field(default_factory=dict)
    steps: list[CarriedStep] = field(default_factory=list)
    hidden: list[CarriedStep] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)


class _Configured(Struct):
    values: dict[str, Any]


_Item: TypeAlias = Mapping[str, Parameter] | CarriedStep | _Configured


def carried_over(run_id: str, inherited: FromSource, runs: Sequence[str]) -> tuple[SourceCarriedOver, ...]:
    """Return the events that give a run what it inherited from its source.

    Args:
        inherited: what the run inherited, as of the fork.
        runs: the runs in its ancestry that themselves got something carried over, nearest first.
    """
    parts = [_part(items, inherited.hidden) for items in in_parts(_items(run_id, inherited), PART_BYTES_MAX)]
    return tuple(
        SourceCarriedOver(
            branch=ROOT,
            values=part.values,
            steps=part.steps,
            hidden=part.hidden,
            config=part.config,
            part=number,
            parts=len(parts),
            **({"runs": list(runs), **inherited.described} if number == 1 else {}),
        )
        for number, part in enumerate(parts, start=1)
    )


def _part(items: Iterable[_Item], hidden: Collection[str]) -> _Part:
    part = _Part()
    for item in items:
        if isinstance(item, CarriedStep):
            (part.hidden if item.log.step in hidden else part.steps).append(item)
        elif isinstance(item, _Configured):
            part.config.update(item.values)
        else:
            part.values.update(item)
    return part


def _items(run_id: str, inherited: FromSource) -> Iterator[_Item]:
    """Yield the units that are not split: a parameter, a configuration key, a step with at most one attempt."""
    yield from ({name: value} for name, value in inherited.parameters.items())
    yield from (_Configured({key: value}) for key, value in inherited.config.items())
    place = 0
    for step in inherited.steps.values():
        ids = {attempt.attempt_id: _attempt_id(run_id, step, attempt) for attempt in step.attempts}
        current = ids.get(step.current_attempt_id or "")
        log = structs.replace(step, attempts=[], current_attempt_id=current, inherited_from=None)
        attempts = [structs.replace(attempt, attempt_id=ids[attempt.attempt_id]) for attempt in step.attempts]
        for some in [[attempt] for attempt in attempts] or [[]]:
            yield CarriedStep(place=place, log=structs.replace(log, attempts=some))
        place += 1 + max((attempt.attempt_index for attempt in attempts), default=0)


def _attempt_id(run_id: str, step: StepLog, attempt: AttemptLog) -> str:
    # Attempt ids are unique in the store, but several forks may inherit the same attempt.
    return derived_id(run_id, step.step, attempt.attempt_id)
