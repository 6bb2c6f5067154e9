"""Any one change made to the file behind the engine's back is reported where it was made, or changes no read.

Verification does not detect a new order of events that no link connects, since no hash commits to it, nor changes to
anything that is not history: idempotency keys, the views and their checkpoints.
"""

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from engine import Engine, open_engine
from engine.codec import decode_event, encode_canonical, payload_digest
from engine.errors import CannotDecode
from engine.events import PayloadErased
from engine.findings import Problem
from engine.logs.sqlite_ledger import as_text
from engine.model import Parameter
from examples.independent_check import check
from tests.property.histories import HISTORIES, Move, grow
from tests.tampered import Tampered, copy_store, tampering

Row: TypeAlias = dict[str, Any]

QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=250)

SEEDS = st.integers(0, 2**64)
KEYS = {"events": "position", "streams": "stream_id"}
INTEGERS = {
    "events": ["position", "root_id", "stream_id", "stream_version", "schema_version", "recorded_at"],
    "streams": ["stream_id", "root_id", "parent_id", "parent_version", "version"],
}
HASHED = {"content", "hash", "header", "missing event", "payload"}
"""The kinds of problems that `examples/independent_check.py` finds, too."""
BYTES = {
    "events": ["event_type", "event_id", "payload", "payload_digest", "hash"],
    "streams": ["run_id", "branch", "hash"],
}
TEXTS = {"event_type", "run_id", "branch"}


class Change(Struct):
    """One change: what was done, in which table, and its rows before and after; `moved` if events changed positions."""

    said: str
    table: str
    rows: list[Row]
    moved: bool = False


class Hand:
    """Makes one random change to a store."""

    def __init__(self, store: Tampered, seed: int) -> None:
        self.store = store
        self.chance = random.Random(seed)
        self.table = self.chance.choice(["events", "events", "events", "streams"])
        self.rows = store.dicts(self.table)

    def change(self) -> Change:
        """Make one change that has an effect and that SQLite accepts."""
        moves: list[Callable[[], Change]] = [
            *[self.change_byte] * 4,
            *[self.change_integer] * 4,
            self.change_length,
            self.empty,
            self.delete,
            self.repeat,
            self.swap_cells,
            self.swap_rows,
        ]
        while True:
            try:
                return self.chance.choice(moves)()
            except (sqlite3.IntegrityError, IndexError):  # a key is taken, or there is no such cell: try another
                continue

    def change_byte(self) -> Change:
        row, column, value = self.cell()
        place = self.chance.randrange(len(value))
        other = (value[place] + self.chance.randrange(1, 256)) % 256
        return self.put(row, column, value[:place] + bytes([other]) + value[place + 1 :])

    def change_length(self) -> Change:
        row, column, value = self.cell()
        place = self.chance.randrange(len(value))
        longer = value[:place] + self.chance.randbytes(1) + value[place:]
        return self.put(row, column, self.chance.choice([value[:place], value[place + 1 :], longer]))

    def cell(self) -> tuple[Row, str, bytes]:
        """Choose a cell of text or bytes that is not empty."""
        cells = [(row, name) for row in self.rows for name in BYTES[self.table] if row[name]]
        row, name = self.chance.choice(cells)
        return row, name, row[name].encode() if isinstance(row[name], str) else row[name]

    def change_integer(self) -> Change:
        row, column = self.chance.choice(self.rows), self.chance.choice(INTEGERS[self.table])
        known = row[column] or 0
        near = [known - 1, known + 1, -known, 0, self.chance.choice(self.rows)[column]]
        far = [2**63 - 1, -(2**63), self.chance.randrange(2**40)]
        return self.put(row, column, self.chance.choice([*near, *near, *far]))

    def empty(self) -> Change:
        """Set a cell to NULL, or store the true payload's digest beside another payload or none."""
        if self.table == "streams":
            return self.put(self.chance.choice([row for row in self.rows if row["parent_id"]]), "parent_id", None)
        row = self.chance.choice(self.rows)
        if self.chance.random() < 0.5 or row["payload"] is None:
            return self.put(row, self.chance.choice(["payload", "payload_digest"]), None)
        changed = {
            "payload": self.chance.choice(self.rows)["payload"],
            "payload_digest": payload_digest(row["payload"]),
        }
        return self.put_all([(row, changed)], "erased in secret")

    def delete(self) -> Change:
        row = self.chance.choice(self.rows)
        key = KEYS[self.table]
        self.store.connection.execute(f"DELETE FROM {self.table} WHERE {key} = ?", (row[key],))
        return Change("deleted", self.table, [row])

    def repeat(self) -> Change:
        row = dict(self.chance.choice(self.rows))
        key = KEYS[self.table]
        row[key] = max(each[key] for each in self.rows) + self.chance.randrange(1, 3)
        if self.table == "streams":
            row["branch"] += "2"
        marks = ", ".join("?" * len(row))
        self.store.connection.execute(f"INSERT INTO {self.table} VALUES ({marks})", tuple(row.values()))
        return Change("repeated", self.table, [row])

    def swap_cells(self) -> Change:
        column = self.chance.choice([name for name in self.rows[0] if name != KEYS[self.table]])
        return self._swap([column])

    def swap_rows(self) -> Change:
        return self._swap([name for name in self.rows[0] if name != KEYS[self.table]])

    def _swap(self, columns: Sequence[str]) -> Change:
        one, other = self.chance.sample(self.rows, 2) if len(self.rows) > 1 else (self.rows[0], self.rows[0])
        return self.put_all(
            [(one, {name: other[name] for name in columns}), (other, {name: one[name] for name in columns})],
            f"swapped {', '.join(columns)}",
        )

    def put(self, row: Row, column: str, value: Any) -> Change:
        return self.put_all([(row, {column: value})], f"{column} from {row[column]!r} to {value!r}")

    def put_all(self, changes: Sequence[tuple[Row, Row]], said: str) -> Change:
        key = KEYS[self.table]
        if not any(row[name] != value for row, changed in changes for name, value in changed.items()):
            raise IndexError(said)
        self.store.connection.execute("BEGIN")
        try:
            for row, changed in changes if len(changes) > 1 else ():
                self._put_aside(row, changed)
            for row, changed in changes:
                cells = ", ".join(f"{name} = {'CAST(? AS TEXT)' if name in TEXTS else '?'}" for name in changed)
                values = *changed.values(), row[key]
                self.store.connection.execute(f"UPDATE {self.table} SET {cells} WHERE {key} = ?", values)
        except BaseException:
            self.store.connection.execute("ROLLBACK")
            raise
        self.store.connection.execute("COMMIT")
        after = [{**row, **{name: _read(name, value) for name, value in changed.items()}} for row, changed in changes]
        moved = self.table == "events" and ("position" in changes[0][1] or len(changes[0][1]) > 2)
        return Change(said, self.table, [*(row for row, _ in changes), *after], moved)

    def _put_aside(self, row: Row, changed: Row) -> None:
        """Rename streams out of the way first, because names are unique."""
        for name in {"run_id", "branch"} & changed.keys():
            aside = f"UPDATE streams SET {name} = 'aside' || stream_id WHERE stream_id = ?"
            self.store.connection.execute(aside, (row["stream_id"],))


def _read(column: str, value: Any) -> Any:
    return as_text(value) if column in TEXTS and isinstance(value, bytes) else value


class Places:
    """Where a change may be reported: at its rows, before or after it, or at the streams that they open.

    A change to a `PayloadErased` event may also be reported at the event that it names, and a move to another position
    anywhere between the two positions.
    """

    def __init__(self, store: Tampered, change: Change) -> None:
        self.streams = {row["stream_id"]: row for row in store.dicts("streams")}
        self.positions = {row["position"] for row in change.rows if change.table == "events"}
        self.versions = {
            (*self._name(row["stream_id"]), row["stream_version"]) for row in change.rows if change.table == "events"
        }
        self.versions |= {place for row in change.rows if (place := self._erased_by(row)) is not None}
        self.between = (min(self.positions), max(self.positions)) if change.moved else (0, -1)
        rows = change.rows if change.table == "streams" else []
        self.named = {(row["run_id"], row["branch"]) for row in rows}
        ids = {row["stream_id"] for row in rows}
        self.positions |= {
            row["position"] for row in store.dicts("events") if row["stream_id"] in ids and row["stream_version"] == 1
        }

    def _erased_by(self, row: Row) -> tuple[Any, Any, int] | None:
        if row.get("event_type") != PayloadErased.__name__:
            return None
        try:
            said = decode_event(row["event_type"], row["schema_version"], row["payload"])
        except CannotDecode:
            return None
        assert isinstance(said, PayloadErased)
        return self._name(row["stream_id"])[0], said.branch, said.stream_version

    def _name(self, stream_id: int) -> tuple[Any, Any]:
        stream = self.streams.get(stream_id, {})
        return stream.get("run_id"), stream.get("branch")

    def has(self, problem: Problem) -> bool:
        """Return whether a problem is reported at one of these places."""
        name = problem.run_id, problem.branch
        low, high = self.between
        at_a_row = problem.position in self.positions or (*name, problem.stream_version) in self.versions
        return at_a_row or name in self.named or (problem.position is not None and low <= problem.position <= high)


async def reads(path: Path) -> Any:
    """Return what every public read of a store says after a rebuild, with the events in the order of their streams."""
    async with open_engine(path, durability="relaxed") as engine:
        await engine.rebuild()
        events = [
            (each.run_id, each.branch, each.stream_version, each.event_id, each.recorded_at, each.hash, each.event)
            async for each in engine.events()
        ]
        said = [encode_canonical(event) for event in sorted(events, key=lambda event: event[:3])]
        for run_id in sorted({event[0] for event in events}):
            run = await engine.run(run_id)
            said.append(encode_canonical(await run.compile()))
        return said


class Checked:
    """An open store without problems, and what its reads say."""

    def __init__(self, engine: Engine, path: Path, store: Tampered) -> None:
        self.engine = engine
        self.path = path
        self.store = store
        self.said: Any = None

    async def hold(self, seed: int) -> None:
        """Make one change and check that verification reports it where it was made, or that no read has changed."""
        change = Hand(self.store, seed).change()
        try:
            problems = (await self.engine.verify()).problems
            if problems:
                places = Places(self.store, change)
                assert any(places.has(problem) for problem in problems), (change, problems)
                assert self._related(problems, change), (change, problems)
                if any(problem.kind in HASHED for problem in problems):
                    assert check(self.path).problems, (change, problems)
            else:
                assert await self._says_now() == await self._said(), change
        finally:
            self.store.restore()

    def _related(self, problems: Sequence[Problem], change: Change) -> bool:
        """Return whether every run that is reported is a changed run or was forked from one."""
        streams = {row["stream_id"]: row for row in self.store.dicts("streams")}
        roots = {row["root_id"] for row in change.rows}
        roots |= {streams[row["stream_id"]]["root_id"] for row in change.rows if row["stream_id"] in streams}
        parents = {
            row["root_id"]: streams.get(row["parent_id"], row)["root_id"]
            for row in streams.values()
            if row["branch"] == ""
        }
        for root, parent in sorted(parents.items()):
            if parent in roots:
                roots.add(root)
        names = {row["run_id"] for row in streams.values() if row["root_id"] in roots}
        names |= {row["run_id"] for row in change.rows if "run_id" in row}
        return all(problem.run_id is None or problem.run_id in names for problem in problems)

    async def _says_now(self) -> Any:
        copy = self.path.with_name("copy.db")
        for left in self.path.parent.glob("copy.db*"):
            left.unlink()
        copy_store(self.path, copy)
        return await reads(copy)

    async def _said(self) -> Any:
        if self.said is None:
            copy = self.path.with_name("before.db")
            copy_store(self.path, copy)
            with tampering(copy) as before:
                before.rows = self.store.rows
                before.restore()
            self.said = await reads(copy)
        return self.said


ERASED = [
    Move(kind=kind, choice=choice, values=values, rules={}, default="last", on_conflict="child", details={})
    for kind, choice, values in (
        ("set", 0, {"x": Parameter(0)}),
        *(("run", 0, {}), ("set", 0, {}), ("erase", 2, {}), ("run", 0, {}), ("attempt", 0, {}), ("erase", 0, {})),
        *[("run", 0, {})] * 5,
    )
]
"""A history, found by chance, in which change 1534 erases a `PayloadErased` event."""


async def check_history(moves: Sequence[Move], seeds: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        async with open_engine(path, durability="relaxed") as engine:
            await grow(engine, moves)
            verification = await engine.verify(since=await engine.checkpoint())
            assert verification.problems == []
            with tampering(path) as store:
                checked = Checked(engine, path, store)
                for seed in seeds:
                    await checked.hold(seed)


@QUICK
@given(HISTORIES, st.lists(SEEDS, min_size=12, max_size=12))
def test_any_change_is_found_or_changes_nothing(moves: list[Move], seeds: list[int]) -> None:
    """Any drawn history verifies; any one change to it is reported where it was made, or changes no read."""
    asyncio.run(check_history(moves, seeds))


def test_the_event_that_says_what_was_erased_is_erased_in_secret() -> None:
    """A `PayloadErased` event that is erased in secret is reported, at itself or at the event that it names."""
    asyncio.run(check_history(ERASED, [1534]))


@pytest.mark.slow
@MANY
@given(HISTORIES, st.lists(SEEDS, min_size=40, max_size=40))
def test_ten_thousand_changes(moves: list[Move], seeds: list[int]) -> None:
    """Each of 10,000 changes to 250 histories is reported where it was made, or changes no read."""
    asyncio.run(check_history(moves, seeds))
