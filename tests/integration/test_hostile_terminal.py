"""Every command with hostile arguments, and on a store with texts that could never be recorded.

No output contains a character that moves the cursor, colours or reverses a line: neither answers, nor errors, nor JSON.
No file is written except where the command line says.
"""

import asyncio
import contextlib
import io
import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from typing_extensions import override

from engine import open_engine
from engine.cli import main
from tests.faults.rich_runs import record_branches, record_rich_run
from tests.integration.command_lines import COMMANDS, ENDLESS, Place, command_line, commands, places
from tests.integration.test_cli_text import hidden
from tests.property.hostile import TEXTS, TRICKS, may_be_a_name

MANY = settings(max_examples=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

PLACES = places()
_PATHS = {"db", "to", "check", "file", "folder", "since", "key", "private_key"}


class Said(Struct, frozen=True):
    """The exit code and the output of a command."""

    code: int
    output: str
    errors: str


class Stream(io.TextIOWrapper):
    """A standard stream, either a file or a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8")
        self._is_terminal = is_terminal

    def written(self) -> str:
        self.flush()
        return self._bytes.getvalue().decode()

    @override
    def isatty(self) -> bool:
        return self._is_terminal


def said(words: list[str], *, to_terminal: bool = False) -> Said:
    """Run a command in this process, with strict UTF-8 streams."""
    output, errors = Stream(is_terminal=to_terminal), Stream(is_terminal=False)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(words)
    return Said(code, output.written(), errors.written())


def assert_neutral(found: Said, *, as_json: bool) -> None:
    assert found.code in (0, 1, 2)
    assert hidden(found.output + found.errors) <= {"\n"}
    if as_json:
        _documents(found.output)
        _documents("".join(found.errors.splitlines()[-1:]))


def _documents(text: str) -> list[Any]:
    """Return the one JSON document of a text, or the document on each line."""
    with contextlib.suppress(ValueError):
        return [json.loads(text)]
    return [json.loads(line) for line in text.splitlines()]


async def _record(database: Path) -> None:
    async with open_engine(database, durability="relaxed") as engine:
        await record_branches(await record_rich_run(engine, "r1"))
        await engine.fork_run("r1", run_id="r2", from_step="task")


@cache
def _recorded() -> bytes:
    """Return the bytes of a recorded store, which is made once."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "runs.db"
        asyncio.run(_record(database))
        return database.read_bytes()


class Folder:
    """A current folder that contains only an empty folder, with a store beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = root / "current"
        self.database = root / "runs.db"
        self.database.write_bytes(_recorded())

    def renew(self) -> None:
        shutil.rmtree(self.current, ignore_errors=True)
        (self.current / "empty").mkdir(parents=True)
        os.chdir(self.current)
        for path in self.root.glob("runs.db*"):
            path.unlink()
        self.database.write_bytes(_recorded())

    def type(self, place: Place, text: str, *, as_json: bool) -> None:
        """Run a command with a text in one place, and check what it prints and where it writes."""
        if place.name in _PATHS and _leads_elsewhere(text):
            return
        self.renew()
        assert_neutral(said(_typed(place.command, {place.name: text}, as_json=as_json)), as_json=as_json)
        assert {path.name for path in self.root.iterdir() if not path.name.startswith("runs.db")} == {"current"}


def _typed(words: tuple[str, ...], given: Mapping[str, str], *, as_json: bool) -> list[str]:
    line = command_line(words, given)
    return [*words, "--json", *line[len(words) :]] if as_json else line


def _leads_elsewhere(text: str) -> bool:
    return Path(text).is_absolute() or ".." in Path(text).parts


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("ANABRANCH_DB", str(tmp_path / "folder" / "runs.db"))
    return Folder(tmp_path / "folder")


def test_every_command_is_known() -> None:
    """Every command is listed in `COMMANDS` or `ENDLESS`."""
    assert commands().keys() == COMMANDS.keys() | ENDLESS


@pytest.mark.parametrize(
    "some", [pytest.param(slice(None, None, 4), id="some"), pytest.param(slice(None), id="all", marks=pytest.mark.slow)]
)
def test_every_argument_gets_hostile_text(folder: Folder, some: slice) -> None:
    """A hostile text in any argument or option of any command prints nothing hidden, as text or JSON."""
    chance = random.Random(1)
    for number, place in enumerate(PLACES[some]):
        folder.type(place, chance.choice(TRICKS), as_json=number % 2 == 1)


@pytest.mark.slow
@MANY
@given(place=st.sampled_from(PLACES), text=TEXTS, as_json=st.booleans())
def test_two_thousand_command_lines(folder: Folder, place: Place, text: str, as_json: bool) -> None:  # noqa: FBT001 - drawn
    """Any text in any argument or option of any command prints nothing hidden."""
    folder.type(place, text, as_json=as_json)


_EVIL = "\x1b[31m\u202e\u200b\x07[bold]x[/bold]\n\x9b"
"""Terminal controls, invisible characters and markup, which no recorded name can contain."""

_TIMES = {"created_at", "submitted_at", "ended_at", "status_changed_at"}
_CLEAN = {"run_id", "parameters.name", "kind", "value", "finalized_hash"} | _TIMES


def _poison(database: Path) -> None:
    """Append `_EVIL` to every text in the views and the events, as somebody with write access to the file could."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.create_function("poisoned", 1, _poisoned_text)
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in {*tables} - {"store", "view_checkpoints", "schema_info", "events"}:
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                if kind == "TEXT" and not {column, f"{table}.{column}"} & _CLEAN:
                    connection.execute(f"UPDATE {table} SET {column} = poisoned({column})")
        for position, payload in connection.execute("SELECT position, payload FROM events").fetchall():
            said = _poisoned(msgspec.msgpack.decode(payload))
            connection.execute(
                "UPDATE events SET payload = ? WHERE position = ?", (msgspec.msgpack.encode(said), position)
            )


def _poisoned_text(text: str | None) -> str | None:
    """Return the poisoned text of a column: JSON is poisoned inside, and an empty text is the root branch."""
    if not text:
        return text
    try:
        document = json.loads(text)
    except ValueError:
        return text + _EVIL
    return json.dumps(_poisoned(document)) if isinstance(document, dict | list) else text


def _poisoned(value: Any, name: str = "") -> Any:
    match value:
        case str() if value and name not in {"kind", "on_conflict"} and value not in {"json", "metric", "object"}:
            return value + _EVIL
        case dict():
            return {key: _poisoned(member, key) for key, member in value.items()}
        case list():
            return [_poisoned(member, name) for member in value]
        case _:
            return value


_FIND_SOMETHING = {"verify", "doctor", "backup", "diff"}
_SAY_NOTHING_OF_IT: set[tuple[str, ...]] = {("export", "evidence")}
_SAY_NOTHING_OF_IT |= {
    (word,) for word in ("backup", "checkpoint", "compact", "doctor", "erase", "pin", "unpin", "verify")
}

READING = sorted(COMMANDS.keys() - {(word,) for word in ("demo", "import", "rebuild", "fork", "gc", "delete")})
"""Commands to run on a poisoned store: all but those that create or delete runs or replace the views."""


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_poisoned_store(folder: Folder, words: tuple[str, ...]) -> None:
    """Commands print a poisoned store's names, statuses, reasons and values as harmless text."""
    folder.renew()
    _poison(folder.database)
    for as_json in (False, True):
        line = _typed(words, {}, as_json=as_json)
        found = said(line, to_terminal=words == ("export", "runs"))  # into a file it writes the exact content
        assert_neutral(found, as_json=as_json)
        assert found.code == (1 if words[0] in _FIND_SOMETHING else 0)
        assert "[31m" in found.output or words in _SAY_NOTHING_OF_IT


def _valid(tricks: Iterable[str]) -> list[str]:
    return sorted({trick for trick in tricks if may_be_a_name(trick)})


async def _record_runs(database: Path, names: Iterable[str]) -> None:
    async with open_engine(database, durability="relaxed") as engine:
        for name in names:
            await engine.create_run(name)


def written(folder: Path) -> set[str]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_run_logs_of_every_name_go_into_their_folder(folder: Folder) -> None:
    """`export --format json` writes one file for every run id into the folder, and none elsewhere or twice."""
    names = _valid((*TRICKS, "a%2Fb", "A", "é" * 256))
    folder.renew()
    asyncio.run(_record_runs(folder.database, names))
    before = written(folder.root)
    assert said(["export", "runs", "--all", "--format=json", "--to=logs"]).code == 0
    new = written(folder.root) - before
    logs = [json.loads((folder.root / path).read_text()) for path in new]
    assert sorted(log["run_id"] for log in logs) == sorted([*names, "r1", "r2"])
    assert {Path(path).parent for path in new} == {Path("current/logs")}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["../up", "a/b", "[red]x", "| a | b |", "<b>", "😀" * 128], id="some"),
        pytest.param(TRICKS, id="all", marks=pytest.mark.slow),
    ],
)
def test_evidence_of_every_name_goes_into_its_folder(folder: Folder, names: Sequence[str]) -> None:
    """`export evidence` writes its two files into the given folder for every run id, and they pass the check."""
    names = _valid(names)
    folder.renew()
    asyncio.run(_record_runs(folder.database, names))
    before = written(folder.root)
    for number, name in enumerate(names):
        assert said(["export", "evidence", f"--to=e{number}", "--", name]).code == 0
        assert said(["export", "evidence", f"--check=e{number}", "--", name]).code == 0
        report = (folder.current / f"e{number}" / "report.md").read_text(encoding="utf-8")
        assert hidden(report) <= {"\n"}
    new = written(folder.root) - before
    assert new == {f"current/e{number}/{name}" for number in range(len(names)) for name in ("bundle.json", "report.md")}


def test_the_demo_says_how_to_go_on_with_any_file(folder: Folder) -> None:
    """The demo prints a hostile file name as one shell word, with hidden characters escaped."""
    folder.renew()
    found = said(["demo", "--db=a'\x1b[2J\u2028.db", "--", "empty"])
    assert_neutral(found, as_json=False)
    assert "--db $'a\\'\\x1b[2J\\u2028.db'" in found.output
