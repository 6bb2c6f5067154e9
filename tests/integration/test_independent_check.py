"""`examples/independent_check.py`, which shares no code with the engine: docs/format.md describes the whole format."""

import asyncio
import contextlib
import re
import sqlite3
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from engine import Checkpoint, Engine
from engine.codec import EVENT_TYPES, SCHEMA_VERSIONS
from examples.independent_check import check
from tests.contract.test_verify_since import REWRITES, Forge
from tests.faults.rich_runs import record_rich_run
from tests.tampered import record_three_runs, tampering

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "independent_check.py"

EMPTY = (None, "", False, b"", msgspec.NODEFAULT)
"""The defaults that the description of the format shows as a question mark; those from a factory are empty, too."""

TAMPERINGS = {
    "a payload": (
        "UPDATE events SET payload = CAST(payload || x'00' AS BLOB) WHERE position = 6",
        "does not match its hash",
    ),
    "a time": ("UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 6", "does not match its hash"),
    "a hash": ("UPDATE events SET hash = zeroblob(32) WHERE position = 6", "does not match its hash"),
    "a type": ("UPDATE events SET event_type = 'BranchLogged' WHERE position = 6", "does not match its hash"),
    "no payload": ("UPDATE events SET payload = NULL WHERE position = 6", "does not match its hash"),
    "a lost event": ("DELETE FROM events WHERE position = 5", "it follows version 0"),
    "a name": ("UPDATE streams SET branch = 'a.inside' WHERE branch = 'a.inner'", "does not match its hash"),
    "a head": ("UPDATE streams SET version = 3 WHERE branch = 'a.inner'", "its head is not its last event, version 2"),
    "what an erasure left": (
        "UPDATE events SET payload = NULL WHERE position = 17",
        "it records what is left of version 2, which is something else",
    ),
    "an erasure that is hidden": ("DELETE FROM events WHERE event_type = 'PayloadErased'", "no event records"),
    "a run": ("DELETE FROM events WHERE root_id = (SELECT root_id FROM streams WHERE run_id = 'q')", "run 'q'"),
}


def problems(database: Path, checkpoint: Checkpoint | None = None) -> list[str]:
    return check(database, None if checkpoint is None else msgspec.to_builtins(checkpoint)).problems


async def record(engine: Engine) -> None:
    """Record three runs, and a fourth at position 16 with two events, the last of which is erased then."""
    await record_three_runs(engine)
    await engine.create_run("e", parameters={"secret": 1})
    await engine.erase("e", "", 2, "private")


async def test_a_store_is_checked_by_its_format_alone(engine: Engine, database: Path) -> None:
    """A store with erased events, deleted runs and data that was carried over has no problem, at any checkpoint.

    A run that was deleted after a checkpoint is named, as `verify` does.
    """
    await record(engine)
    await record_rich_run(engine, "rich")
    await engine.delete_run("q", "old")
    before = await engine.checkpoint()
    await engine.create_run("q", parameters={"again": 1})
    await engine.create_run("short")
    await engine.delete_run("short", "a mistake")
    await (await engine.run("rich")).finalize()
    assert problems(database) == problems(database, before) == problems(database, await engine.checkpoint()) == []
    await engine.delete_run("r", "old", carry_over=True)
    assert problems(database) == problems(database, await engine.checkpoint()) == []
    assert problems(database, before) == ["run 'r' was deleted since the checkpoint: old"]
    verification = await engine.verify()
    history = check(database)
    assert sum(map(history.events_of, history.runs)) == verification.events
    assert len(history.runs) == verification.runs


@pytest.mark.parametrize("tampering_with", TAMPERINGS)
async def test_what_was_changed_is_named(engine: Engine, database: Path, tampering_with: str) -> None:
    """Every change to the history is a problem, for the independent check as for `verify`."""
    await record(engine)
    statement, expected = TAMPERINGS[tampering_with]
    with tampering(database) as store:
        store.run(statement)
    assert (await engine.verify()).problems
    assert any(expected in problem for problem in problems(database))


@pytest.mark.parametrize("forge", REWRITES)
async def test_what_only_a_checkpoint_shows_is_found(engine: Engine, database: Path, forge: Forge) -> None:
    """A careful rewrite of the history does not match an earlier checkpoint."""
    await record_three_runs(engine)
    checkpoint = await engine.checkpoint()
    with tampering(database) as store:
        forge(store.connection)
    assert "the history up to position 15 is not the one that the checkpoint commits to" in problems(
        database, checkpoint
    )


async def test_a_checkpoint_of_another_store_does_not_fit(engine: Engine, database: Path) -> None:
    """A checkpoint names its store."""
    await record_three_runs(engine)
    other = structs.replace(await engine.checkpoint(), store_id="another")
    (problem,) = problems(database, other)
    assert problem.startswith("the checkpoint is of store another")


def test_the_description_names_every_column(database: Path, engine: Engine) -> None:
    """docs/format.md has a row for each column of the log's tables, and the numbers in the file's header."""
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for table in ("streams", "events", "deleted_runs"):
            (rows,) = re.findall(rf"^\| `{table}` \| \|\n\|---\|---\|\n((?:\|.*\n)+)", page, flags=re.MULTILINE)
            named = [name for row in rows.splitlines() for name in re.findall("`([a-z_]+)`", row.split("|")[1])]
            assert sorted(named) == sorted(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
        (application,), (version,) = (
            connection.execute(f"PRAGMA {each}").fetchone() for each in ("application_id", "user_version")
        )
    assert f"`0x{application:X}`" in page
    assert f"user_version`, now {version}," in page.replace("\n", " ")


def test_the_description_lists_every_event() -> None:
    """docs/format.md has a row for each type of event, with its version, its fields and their defaults."""
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z][A-Za-z]+)` \| (\d) \| (.*) \|$", page, flags=re.MULTILINE)
    fields = {
        name: ", ".join(described(field) for field in structs.fields(event) if field.name != "branch")
        for name, event in EVENT_TYPES.items()
    }
    assert listed == [(name, str(SCHEMA_VERSIONS[name]), fields[name]) for name in EVENT_TYPES]


def described(field: structs.FieldInfo) -> str:
    """Return how the description shows a field: with its default, or a question mark if that is empty."""
    if field.required:
        return f"`{field.name}`"
    return f"`{field.name}` = {field.default}" if field.default not in EMPTY else f"`{field.name}`?"


async def test_a_run_that_went_on_and_was_deleted(engine: Engine, database: Path) -> None:
    """A run that went on after a checkpoint and was then deleted is named, and nothing else is said to be wrong."""
    await record_three_runs(engine)
    checkpoint = await engine.checkpoint()
    await (await engine.run("q")).set_parameters({"z": 2})
    await engine.delete_run("q", "old")
    assert problems(database, checkpoint) == ["run 'q' was deleted since the checkpoint: old"]


async def test_it_is_a_program(engine: Engine, database: Path, tmp_path: Path) -> None:
    """It prints what is wrong and how much it checked; its exit code is 1 if there is a problem."""
    await record_three_runs(engine)
    kept = tmp_path / "checkpoint.json"
    kept.write_text((await engine.checkpoint()).to_json())
    assert await run_program(database, kept) == (0, "runs: 3, events: 15, problems: 0\n")
    with tampering(database) as store:
        store.run(TAMPERINGS["a time"][0])
    assert await run_program(database) == (
        1,
        "position 6, run 'r', branch 'a.inner', version 2: it does not match its hash\n"
        "runs: 3, events: 15, problems: 1\n",
    )
    assert await run_program() == (1, "")


async def run_program(*arguments: Path) -> tuple[int | None, str]:
    """Return the exit code and the output of the program."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, _ = await program.communicate()
    return program.returncode, output.decode()
