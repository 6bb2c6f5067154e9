"""A run's compiled log in the JSON shape that the runnable host's own `file-system` store writes, without the host.

The host's `timeline` command reads it. What the host recorded is unchanged. What other callers recorded is adapted:
statuses are translated; times become naive and in UTC, because the host cannot sort aware and naive times together;
branches that no step opened get a step around them; erased values, which the host does not know, become None; and zero
durations become a microsecond, because the host divides by them.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct, structs

from engine.handles.engine import Engine
from engine.model import COMPLETED, FAILED, RUNNING, Parameter
from engine.stores.documents import BranchLog, RunLog, StepAttempt, StepLog
from engine.stores.partitioned import PartitionedRunLogStore

_STATUSES: Final = {COMPLETED: "SUCCESS", FAILED: "FAIL", RUNNING: "PROCESSING"}


async def host_json(engine: Engine, run_id: str) -> str:
    """Return a run's log as JSON text, with NaN and the infinities as Python's `json` writes them, like the host.

    Raises:
        RunNotFound
    """
    store = PartitionedRunLogStore(engine, inherited=False)  # like the host's own branches
    log = await store.get_run_log_by_id(run_id, full=True)
    return json.dumps(_plain(log), ensure_ascii=True, indent=4) + "\n"


def _plain(value: Any) -> Any:
    match value:
        case Struct():
            return _fields(_adapted(value))
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case list():
            return [_plain(member) for member in value]
        case _:
            return value


def _adapted(struct: Struct) -> Struct:
    match struct:
        case RunLog() | BranchLog():
            return structs.replace(struct, steps=_steps(struct, getattr(struct, "internal_name", "")))
        case StepAttempt():
            return _with_host_times(struct)
        case Parameter(kind="erased"):
            return Parameter(None)
        case _:
            return struct


def _fields(struct: Struct) -> dict[str, Any]:
    names = [name for name in struct.__struct_fields__ if name != "branches" or isinstance(struct, StepLog)]
    fields = {name: _plain(getattr(struct, name)) for name in names}
    if "status" in fields:
        fields["status"] = _STATUSES.get(fields["status"], fields["status"])
    return fields


def _steps(log: RunLog | BranchLog, branch: str) -> dict[str, StepLog]:
    """Return a branch's steps by internal name, with every child branch in one of them."""
    steps = {each.internal_name: each for each in _with_full_names(log, branch)}
    opened = {name for step in steps.values() for name in step.branches}
    for name, below in log.branches.items():
        if name not in opened:
            opener = _opener(name, branch)
            step = steps.get(opener) or StepLog(
                name=opener.rpartition(".")[2], internal_name=opener, status=below.status, step_type="parallel"
            )
            steps[opener] = structs.replace(step, branches={**step.branches, name: below})
    return steps


def _with_full_names(log: RunLog | BranchLog, branch: str) -> Iterator[StepLog]:
    for step in log.steps.values():
        name = step.internal_name
        below = f"{branch}.{name}" if branch and not name.startswith(f"{branch}.") else name
        yield structs.replace(step, internal_name=below)


def _opener(name: str, parent: str) -> str:
    """Return the internal name of the step that would have opened a branch in the host."""
    own = name.removeprefix(f"{parent}.") if parent else name
    opener = own.rpartition(".")[0] or own
    return f"{parent}.{opener}" if parent else opener


def _with_host_times(attempt: StepAttempt) -> StepAttempt:
    start, end = _without_zone(attempt.start_time), _without_zone(attempt.end_time)
    began, ended = _moment(start), _moment(end)
    if end != attempt.end_time and began is not None and ended is not None and ended <= began:
        end = str(began + timedelta(microseconds=1))
    return structs.replace(attempt, start_time=start, end_time=end)


def _without_zone(text: str) -> str:
    """Return an aware time, which the host never writes, as a naive one in UTC; leave any other text unchanged."""
    moment = _moment(text)
    if moment is None or moment.tzinfo is None:
        return text
    return str(moment.astimezone(UTC).replace(tzinfo=None))


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
