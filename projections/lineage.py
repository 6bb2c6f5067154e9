"""The lineage of a value: from a branch's parameter back through reductions and forks.

A parameter's row holds the position of its event, so every step is a few lookups by key. Nothing scans the log: the
cost grows with the size of the result, the nesting of the branches, and the number of attempts of the branches
involved, which are read once.
"""

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, Final, Literal, cast

import msgspec
from msgspec import Struct, field, structs

from engine.codec import decode_event
from engine.errors import ParameterNotFound
from engine.events import ParametersReduced, SourceCarriedOver
from engine.lineage import ConflictOutcome, During, ForkPoint, Lineage, LineageQuery, Written
from engine.model import Head, Parameter, Source
from engine.ports import Stream
from engine.times import from_microseconds
from projections.columns import from_json
from projections.own_parameters import LATEST
from projections.reading import lineage
from projections.streams import find_stream, stream_name

_SELECT_ROW = "SELECT stream_id, stream_version, position, kind, value FROM parameters"
_SELECT_CHILD_ROW = f"{_SELECT_ROW} WHERE stream_id = (SELECT stream_id FROM streams WHERE run_id = ? AND branch = ?)"
_SELECT_EVENT = (
    "SELECT run_id, branch, stream_version, event_id, recorded_at, events.hash, event_type, schema_version, payload"
    " FROM events JOIN streams USING (stream_id) WHERE position = ?"
)
_HOW: Final[dict[str, Literal["reduced", "carried"]]] = {
    ParametersReduced.__name__: "reduced",
    SourceCarriedOver.__name__: "carried",
}


class _Values(Struct):
    """The common part of the events that set parameters, with the values still encoded."""

    values: dict[str, msgspec.Raw]
    copied_from: Source | None = None


_VALUES: Final = msgspec.msgpack.Decoder(_Values)
_PARAMETER: Final = msgspec.msgpack.Decoder(Parameter)


class _Row(Struct, frozen=True):
    """One row of `parameters`.

    `stream_version` may differ from that of the event at `position`: a value carried over from a deleted source has
    version 1, as of the fork, whenever that was recorded.
    """

    stream_id: int
    stream_version: int
    position: int
    kind: Any
    value: str


class _Node(Struct):
    """A value of the result whose sources are still being looked up. The root's sources are at level 1."""

    row: _Row
    written: Written
    level: int
    event: ParametersReduced | None
    copied_from: Source | None
    sources: "list[_Node]" = field(default_factory=list)
    passed_over: list[Written] = field(default_factory=list)
    more: int = 0
    through: list[ForkPoint] = field(default_factory=list)


def read_lineage(connection: sqlite3.Connection, stream: Stream, version: int, query: LineageQuery) -> Lineage:
    """Return the lineage of the value that a branch sees as of a version.

    Raises:
        ParameterNotFound: it sees no parameter of that name.
        CannotDecode: naming the position of an event that cannot be decoded.
    """
    tracing = _Tracing(connection, query)
    roots = [tracing.root(row, through) for row, through in tracing.values(stream.stream_id, version)]
    if not roots:
        raise ParameterNotFound(stream.run_id, stream.branch, query.name)
    return tracing.trace(roots)


class _Tracing:
    """Builds one lineage."""

    def __init__(self, connection: sqlite3.Connection, query: LineageQuery) -> None:
        self._connection = connection
        self._name = query.name
        self._depth = query.depth
        self._children_left = query.limit
        self._values_max = query.limit + 1 if query.history else 1

    def values(self, stream_id: int, version: int) -> Iterator[tuple[_Row, list[ForkPoint]]]:
        """Yield the value that a branch sees as of a version, then those it overwrote, each with the forks passed."""
        through: list[ForkPoint] = []
        count = 0
        for source, until in lineage(self._connection, stream_id, version):
            if source != stream_id:
                through.append(ForkPoint(*stream_name(self._connection, source), until))
            for row in self._own(source, until):
                yield row, list(through)
                count += 1
                if count == self._values_max:
                    return

    def _own(self, stream_id: int, version: int) -> Iterator[_Row]:
        where = "WHERE stream_id = ? AND name = ? AND stream_version <= ? ORDER BY stream_version DESC"
        for row in self._connection.execute(f"{_SELECT_ROW} {where}", (stream_id, self._name, version)):
            yield _Row(*row)

    def root(self, row: _Row, through: list[ForkPoint]) -> _Node:
        """Return the node of a value that the branch sees or saw, reached through these forks."""
        node = self._node(row, 0)
        node.through = through
        return node

    def trace(self, roots: list[_Node]) -> Lineage:
        """Return the lineage of the first node; the others are its history."""
        nodes = list(self._with_sources(roots))
        for node in nodes:
            self._pass_over(node)
        during = self._attempts_during(nodes)
        made: dict[int, Lineage] = {}
        for node in reversed(nodes):  # sources come after the nodes made from them
            sources = [made.pop(id(source)) for source in node.sources]
            made[id(node)] = self._finished(node, sources, during.get(node.row.position))
        first, *history = (made[id(root)] for root in roots)
        return structs.replace(first, history=history)

    def _with_sources(self, roots: list[_Node]) -> Iterator[_Node]:
        # Breadth first, so that the limit leaves out the sources farthest from the value.
        waiting = deque(roots)
        while waiting:
            node = waiting.popleft()
            if node.level < self._depth:
                node.sources = list(self._sources(node))
            waiting.extend(node.sources)
            yield node

    def _sources(self, node: _Node) -> Iterator[_Node]:
        if node.event is not None:
            for source in node.event.sources.get(self._name, ()):
                row = self._child_row(node, "stream_version = ?", source.branch, source.stream_version)
                if row is not None:
                    yield self._node(row, node.level + 1)
        if node.copied_from is not None and (row := self._copied_row(node, node.copied_from)) is not None:
            yield self._node(row, node.level + 1)

    def _copied_row(self, node: _Node, source: Source) -> _Row | None:
        if not self._children_left:
            return None
        self._children_left -= 1
        stream = find_stream(self._connection, node.written.run_id, source.branch)
        row = self._seen(stream.stream_id, source.stream_version)
        if row is None:
            return None
        # A carried-over value counts from the beginning of its run, however late it was recorded.
        return row if row.stream_version == 1 or row.position < node.written.position else None

    def _seen(self, stream_id: int, version: int) -> _Row | None:
        """Return the row of the value that a branch sees as of a version."""
        for source, until in lineage(self._connection, stream_id, version):
            row = next(self._own(source, until), None)
            if row is not None:
                return row
        return None

    def _pass_over(self, node: _Node) -> None:
        for head in self._unvisited_children(node):
            if node.level == self._depth or not self._children_left:
                node.more += 1
                continue
            row = self._child_row(
                node, "stream_version <= ? ORDER BY stream_version DESC LIMIT 1", head.branch, head.stream_version
            )
            if row is not None:
                node.passed_over.append(self._written(row))

    def _unvisited_children(self, node: _Node) -> Iterable[Head]:
        """Return the heads of a reduction's children that were not looked up as sources."""
        if node.event is None or not node.event.sources.get(self._name):
            return ()
        looked_into = {source.written.branch for source in node.sources}
        return [head for head in node.event.children if head.branch not in looked_into]

    def _child_row(self, node: _Node, clauses: str, branch: str, stream_version: int) -> _Row | None:
        if not self._children_left:
            return None
        self._children_left -= 1
        row = self._connection.execute(
            # The inputs of an event are older than it; the condition also ends cycles in a damaged file.
            f"{_SELECT_CHILD_ROW} AND name = ? AND position < ? AND {clauses}",
            (node.written.run_id, branch, self._name, node.written.position, stream_version),
        ).fetchone()
        return None if row is None else _Row(*row)

    def _node(self, row: _Row, level: int) -> _Node:
        written, copied_from = self._written_from(row)
        reduced = self._reduction(row.position) if written.how == "reduced" else None
        return _Node(row, written, level, reduced, copied_from)

    def _written(self, row: _Row) -> Written:
        return self._written_from(row)[0]

    def _written_from(self, row: _Row) -> tuple[Written, Source | None]:
        """Return the value that an event wrote, and the source if it is a copy."""
        found = self._connection.execute(_SELECT_EVENT, (row.position,)).fetchone()
        run_id, branch, stream_version, event_id, recorded_at, hash_, event_type, schema_version, payload = found
        value, copied_from = self._decoded_value(event_type, schema_version, payload, row.position)
        written = Written(
            # Prefer the event's value over the row's: the hash in the result commits to the event.
            value=value or Parameter(from_json(row.value), row.kind),
            run_id=run_id,
            branch=branch,
            stream_version=stream_version,
            position=row.position,
            recorded_at=from_microseconds(recorded_at),
            event_id=event_id.hex(),
            hash=hash_,
            how=_HOW.get(event_type, "set") if copied_from is None else "copied",
        )
        return written, copied_from

    def _decoded_value(
        self, event_type: str, schema_version: int, payload: bytes, position: int
    ) -> tuple[Parameter | None, Source | None]:
        """Return an event's value for the name, and the source if it is a copy; decode only this one of its values."""
        try:
            event = _VALUES.decode(payload)
            raw = event.values.get(self._name)
            return None if raw is None else _PARAMETER.decode(raw), event.copied_from
        except (msgspec.MsgspecError, ValueError, TypeError):
            decode_event(event_type, schema_version, payload, position)  # raises a `CannotDecode` that names the event
            raise

    def _reduction(self, position: int) -> ParametersReduced:
        event_type, schema_version, payload = self._connection.execute(
            "SELECT event_type, schema_version, payload FROM events WHERE position = ?", (position,)
        ).fetchone()
        return cast("ParametersReduced", decode_event(event_type, schema_version, payload, position))

    def _finished(self, node: _Node, sources: list[Lineage], during: During | None) -> Lineage:
        return Lineage(
            **structs.asdict(node.written),
            rule=None if node.event is None else node.event.rules.get(self._name),
            during=during,
            inherited_through=node.through,
            sources=sources,
            passed_over=node.passed_over,
            more=node.more,
            conflicts=[] if node.event is None else list(self._conflicts(node.event)),
            overwrote=self._overwrote(node.row),
        )

    def _conflicts(self, event: ParametersReduced) -> Iterator[ConflictOutcome]:
        taken = {source.branch for source in event.sources.get(self._name, ())}
        for each in event.conflicts:
            if each.name == self._name:
                yield ConflictOutcome(each.branch, each.base, each.parent, each.child, each.branch in taken)

    def _overwrote(self, row: _Row) -> Written | None:
        before = self._seen(row.stream_id, row.stream_version - 1)
        return None if before is None else self._written(before)

    def _attempts_during(self, nodes: Iterable[_Node]) -> dict[int, During]:
        """Return, by position, the attempt during which each value was written, if there was exactly one."""
        written: dict[int, set[int]] = {}
        for node in nodes:
            if node.written.how != "carried":
                written.setdefault(node.row.stream_id, set()).add(node.row.position)
        found: dict[int, During] = {}
        for stream_id, positions in written.items():
            found |= self._attempts_at(stream_id, sorted(positions))
        return found

    def _attempts_at(self, stream_id: int, positions: Sequence[int]) -> Iterator[tuple[int, During]]:
        """Yield the attempt that was open at each of a stream's positions, in order, if there was exactly one."""
        rows = self._connection.execute(
            "SELECT position, coalesce(ended_position, ?), task_id, attempt_index, attempt_id, status"
            " FROM task_attempts WHERE stream_id = ? AND position < ?"
            " AND (ended_position IS NULL OR ended_position > ?) ORDER BY position",
            (LATEST, stream_id, positions[-1], positions[0]),
        )
        begun = deque(rows)
        open_attempts: list[tuple[int, int, During]] = []  # a heap: the first to end comes first
        for position in positions:
            while begun and begun[0][0] < position:
                _, ended, *attempt = begun.popleft()
                heappush(open_attempts, (ended, len(begun), During(*attempt)))
            while open_attempts and open_attempts[0][0] <= position:
                heappop(open_attempts)
            if len(open_attempts) == 1:
                yield position, open_attempts[0][2]
