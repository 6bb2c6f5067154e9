"""The parameters that streams set themselves, from memory and by SQL, against a walk over every row."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.model import Parameter
from engine.ports import OwnParameter
from projections.columns import from_json, to_json
from projections.own_parameters import LatestRows, ParameterRow, own_parameters, own_parameters_of
from projections.partitions import Partitions

STREAMS = (1, 2, 3)
NAMES_ALL = ["a", "b", "c", "ab", "é", "'", "d", "e"]
NAMES = st.sampled_from(NAMES_ALL)
VALUES = st.one_of(st.integers(0, 9), st.floats(allow_nan=False), st.text("xy", max_size=3), st.none())
SETS = st.tuples(st.just("set"), st.sampled_from(STREAMS), st.dictionaries(NAMES, VALUES, max_size=4))
MOVES = st.one_of(
    SETS,
    SETS,
    st.tuples(st.just("open"), st.sampled_from(STREAMS), st.none()),
    st.tuples(st.just("set elsewhere"), st.sampled_from(STREAMS), st.dictionaries(NAMES, VALUES, max_size=4)),
    st.tuples(st.just("forget"), st.just(0), st.none()),
    st.tuples(st.just("trim"), st.just(0), st.none()),
)


class Table:
    """The table of parameters, and the cache of its latest rows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.versions = dict.fromkeys(STREAMS, 0)
        self.written: list[ParameterRow] = []
        self.latest = LatestRows(connection)

    def make(self, move: str, stream_id: int, values: dict[str, object] | None) -> None:
        if move == "open" and not self.versions[stream_id]:
            self.latest.opened(stream_id)
        elif move in ("set", "set elsewhere"):
            self.versions[stream_id] += 1
            version = self.versions[stream_id]
            rows = [
                (stream_id, name, version, 7, "json", to_json(value), version % 2)
                for name, value in (values or {}).items()
            ]
            self.connection.executemany("INSERT INTO parameters VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self.written += rows
            if move == "set":
                self.latest.put(rows)
            else:
                self.latest.forget([stream_id])
        elif move == "forget":
            self.latest.forget()
        elif move == "trim":
            self.latest.trim()

    def walked(self, stream_id: int, version: int) -> dict[str, OwnParameter]:
        """Fold a stream's rows one after another."""
        found: dict[str, OwnParameter] = {}
        for row_stream, name, row_version, _, kind, value, copied in self.written:
            if row_stream == stream_id and row_version <= version:
                parameter = Parameter(from_json(value), kind)  # type: ignore[arg-type]
                found[name] = OwnParameter(parameter, row_version, bool(copied))
        return dict(sorted(found.items()))


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        Partitions(made).create_tables()
        yield made


@given(st.lists(MOVES, max_size=25), st.integers(0, 10), st.one_of(st.none(), st.sets(NAMES)))
@example([("open", 1, None), ("set", 1, {"b": 1, "a": 2})], 1, {"a", "b"})  # cached rows out of order
def test_own_parameters_are_the_last_rows_of_each_name(
    connection: sqlite3.Connection,
    moves: list[tuple[str, int, dict[str, object] | None]],
    version: int,
    names: set[str] | None,
) -> None:
    """Own parameters are the last row of each name, in name order: whatever is cached, for several streams at once, and
    up to any version of one.
    """
    connection.execute("DELETE FROM parameters")
    table = Table(connection)
    for move in moves:
        table.make(*move)
        walked = [table.walked(stream_id, 2**63 - 1) for stream_id in STREAMS]
        for found in (table.latest.own_parameters_of(STREAMS), own_parameters_of(connection, STREAMS)):
            assert [list(each.items()) for each in found] == [list(each.items()) for each in walked]
    for stream_id in STREAMS:
        due = {name: own for name, own in table.walked(stream_id, version).items() if names is None or name in names}
        assert list(own_parameters(connection, stream_id, version, names).items()) == list(due.items())
        asked = NAMES_ALL if names is None else names
        latest = {name: own for name, own in table.walked(stream_id, 2**63 - 1).items() if name in asked}
        assert list(table.latest.own_of(stream_id, asked).items()) == list(latest.items())


def test_the_cache_of_latest_rows_is_bounded(connection: sqlite3.Connection) -> None:
    """The cache bounds the size of its rows, and a row that replaces another counts once."""
    connection.execute("DELETE FROM parameters")
    latest = LatestRows(connection)
    latest.opened(1)
    for version in range(20):
        latest.put([(1, "x", version, version, "json", to_json("y" * 1_000_000), 0)])
        latest.trim()
    (kept,) = latest.own_parameters_of([1])
    assert kept["x"].stream_version == 19
    latest.put([(1, f"x{number}", 20, 20, "json", to_json("y" * 1_000_000), 0) for number in range(10)])
    latest.trim()
    assert latest.own_parameters_of([1]) == [{}], "dropped from memory, and never written to the table"
