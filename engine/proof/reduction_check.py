"""Recomputing reductions from the children's events, to compare with what was recorded.

For the checked run and the runs it was forked from, the index keeps only the version and position of each set
parameter, 16 bytes; values are read from the events when a reduction needs them.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, TypeAlias

from msgspec import structs

from engine.codec import EVENT_TYPES, same
from engine.errors import CannotDecode, ReductionImpossible
from engine.events import ParametersReduced, ParametersSet, SourceCarriedOver
from engine.model import ERASED, Head, Parameter
from engine.ports import OwnParameter
from engine.proof.hash_chain import decoded
from engine.reduction import FUNCTION_RULE, Child, Outcome, fold, written_itself
from engine.stored import Ledger, StoredEvent, StoredStream

ParameterEvent: TypeAlias = ParametersSet | ParametersReduced | SourceCarriedOver

_READ_NAMES_MAX: Final = 20_000

_SETTING_TYPES: Final = ("ParametersSet", "ParametersReduced")


class _Unprovable(Exception):
    """An input of the reduction was erased, was deleted with its run, or cannot be read."""


class _History:
    """The versions and positions at which one parameter of one stream was set, and the versions that were copies."""

    __slots__ = ("copies", "positions", "versions")

    def __init__(self) -> None:
        self.versions = array("q")
        self.positions = array("q")
        self.copies = array("q")

    def is_copy(self, version: int) -> bool:
        place = bisect_left(self.copies, version)
        return place < len(self.copies) and self.copies[place] == version


class _ValueCache:
    """An LRU cache of decoded parameter values by event position, bounded by the total number of names."""

    def __init__(self) -> None:
        self._values: dict[int, dict[str, Parameter]] = {}
        self._names = 0

    def at(self, position: int, ledger: Ledger) -> dict[str, Parameter]:
        values = self._values.pop(position, None)
        if values is None:
            values = _values(ledger, position)
            self._names += len(values)
        self._values[position] = values
        while self._names > _READ_NAMES_MAX and len(self._values) > 1:
            self._names -= len(self._values.pop(next(iter(self._values))))
        return values


class ParameterIndexes:
    """Where the parameters of a run, and of the runs it was forked from, were set.

    `broken` is the first bad version by stream id: events from there on prove nothing.
    """

    def __init__(self, root_id: int, broken: Mapping[int, int]) -> None:
        self._streams: dict[int, dict[str, _History]] = {}
        self._broken = broken
        self._unknown_from: dict[int, int] = {}
        self._root_id = root_id
        self._sources: dict[int, int | None] = {}
        self._read = _ValueCache()

    def add(self, row: StoredEvent, event: ParameterEvent) -> None:
        """Index the parameters that an event set."""
        names = self._streams.setdefault(row.stream_id, {})
        for name in event.values:
            history = names.get(name) or names.setdefault(name, _History())
            history.versions.append(row.stream_version)
            history.positions.append(row.position)
            if isinstance(event, ParametersSet) and event.copied_from is not None:
                history.copies.append(row.stream_version)

    def mark_unknown(self, row: StoredEvent) -> None:
        """Note that it is unknown which parameters an event set."""
        if row.event_type in _SETTING_TYPES or row.event_type not in EVENT_TYPES:
            self._unknown_from.setdefault(row.stream_id, row.stream_version)

    def own(
        self, stream_id: int, version: int, ledger: Ledger, names: Collection[str] | None = None
    ) -> dict[str, OwnParameter]:
        """Return the parameters that a stream itself set or reduced up to a version."""
        if self._unknown_from.get(stream_id, version + 1) <= version:
            raise _Unprovable
        known = self._streams.get(stream_id, {})
        found = {}
        for name in known if names is None else [name for name in names if name in known]:
            history = known[name]
            place = bisect_right(history.versions, version) - 1
            if place >= 0:
                values = self._read.at(history.positions[place], ledger)
                set_at = history.versions[place]
                found[name] = OwnParameter(_value(values, name), set_at, history.is_copy(set_at))
        return dict(sorted(found.items()))

    def set_between(self, stream_id: int, after: int, until: int, names: Iterable[str]) -> set[str]:
        """Return which of the names a stream itself set or reduced after one version, and up to another."""
        if self._unknown_from.get(stream_id, until + 1) <= until:
            raise _Unprovable
        known = self._streams.get(stream_id, {})
        return {
            name
            for name in names
            if name in known and bisect_right(known[name].versions, after) < bisect_right(known[name].versions, until)
        }

    def resolved(
        self, stream: StoredStream, version: int, names: Collection[str], ledger: Ledger
    ) -> dict[str, Parameter]:
        """Return the values of some parameters that a stream sees as of a version, resolved through its forks."""
        wanted, found = set(names), dict[str, Parameter]()
        for each, until in _lineage(stream, version, ledger):
            if not wanted:
                break
            if self._broken.get(each.stream_id, until + 1) <= until:
                raise _Unprovable
            self._index(each, ledger)
            for name, own in self.own(each.stream_id, until, ledger, wanted).items():
                found[name] = own.parameter
            wanted -= found.keys()
        return found

    def _index(self, stream: StoredStream, ledger: Ledger) -> None:
        root_id = stream.root_id
        if root_id == self._root_id:
            return
        if root_id in self._sources:
            if stream.stream_id == root_id and stream.parent_id != self._sources[root_id]:
                raise _Unprovable  # its source was deleted since, and the carried-over values are not indexed
            return
        root = ledger.stream(root_id)
        self._sources[root_id] = None if root is None else root.parent_id
        self.carried_over(root_id, ledger)
        for row in ledger.events_of_types(root_id, _SETTING_TYPES):
            try:
                self.add(row, _parameter_event(row))
            except _Unprovable:  # reported when its own run is checked
                self.mark_unknown(row)

    def carried_over(self, root_id: int, ledger: Ledger) -> None:
        """Index the parameters carried over to a run when its source was deleted, as set at its first version."""
        for row in ledger.events_of_types(root_id, ("SourceCarriedOver",)):
            with suppress(_Unprovable):
                self.add(structs.replace(row, stream_version=1), _parameter_event(row))


def reduction_problem(
    indexes: ParameterIndexes, parent: StoredStream, row: StoredEvent, event: ParametersReduced, ledger: Ledger
) -> str | None:
    """Return what part of a reduction does not follow from the children's events, or None.

    Values computed by a caller's function are taken as recorded; their sources are checked.
    """
    unpaired = event.rules.keys() ^ event.values.keys()
    if unpaired:
        return f"parameter {min(unpaired)!r} has a rule without a value, or a value without a rule"
    try:
        outcome = _recomputed(indexes, parent, row, event, ledger)
    except ReductionImpossible as error:
        return str(error)
    except _Unprovable:
        return None
    for what, recorded, due in (
        ("values", event.values, outcome.values),
        ("rules", event.rules, outcome.rules),
        ("sources", event.sources, outcome.sources),
    ):
        differing = [name for name in sorted({*recorded, *due}) if not same(recorded.get(name), due.get(name))]
        if differing:
            return f"its {what} of {', '.join(map(ascii, differing))} do not follow from the children's events"
    if not same(event.conflicts, outcome.conflicts):
        return "its conflicts do not follow from the children's events"
    return None


def _recomputed(
    indexes: ParameterIndexes, parent: StoredStream, row: StoredEvent, event: ParametersReduced, ledger: Ledger
) -> Outcome:
    before = row.stream_version - 1
    contested = set[str]()
    children = [_child(indexes, parent, head, before, contested, ledger) for head in event.children]
    return fold(
        children,
        indexes.own(parent.stream_id, before, ledger, contested),
        rules=event.rules,
        default_rule="last",
        keep_parent=event.on_conflict == "parent",
        computed={name: event.values[name] for name, rule in event.rules.items() if rule == FUNCTION_RULE},
        finds_unchanged=row.schema_version > 1,
    )


def _child(
    indexes: ParameterIndexes, parent: StoredStream, head: Head, until: int, contested: set[str], ledger: Ledger
) -> Child:
    """Return a child as it was reduced; add to `contested` its names that the parent set between fork and `until`."""
    stream = ledger.named(parent.run_id, head.branch)
    if stream is None:
        raise _Unprovable
    own = written_itself(indexes.own(stream.stream_id, head.stream_version, ledger))
    since = indexes.set_between(parent.stream_id, stream.parent_version, until, own)
    contested |= since
    return Child(head, own, stream.parent_version, indexes.resolved(parent, stream.parent_version, since, ledger))


def _lineage(stream: StoredStream, version: int, ledger: Ledger) -> Iterator[tuple[StoredStream, int]]:
    current, seen = stream, set[int]()
    while current.stream_id not in seen:
        seen.add(current.stream_id)  # tampered rows may form a cycle
        yield current, version
        version = current.parent_version
        if current.parent_id is None:
            return
        parent = ledger.stream(current.parent_id)
        if parent is None:
            raise _Unprovable
        current = parent


def _values(ledger: Ledger, position: int) -> dict[str, Parameter]:
    row = ledger.event_at(position)
    if row is None or row.payload_digest is not None:
        raise _Unprovable
    return _parameter_event(row).values


def _value(values: Mapping[str, Parameter], name: str) -> Parameter:
    if name not in values or values[name] == ERASED:  # a carried-over value may already have been erased
        raise _Unprovable
    return values[name]


def _parameter_event(row: StoredEvent) -> ParameterEvent:
    """Return the decoded event; an erased one has its names, but not its values."""
    if row.payload is None:
        raise _Unprovable
    try:
        event = decoded(row)
    except CannotDecode as error:
        raise _Unprovable from error
    if not isinstance(event, ParameterEvent):
        raise _Unprovable
    return event
