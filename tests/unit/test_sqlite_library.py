"""Which SQLite libraries the engine works with."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from engine import open_engine
from engine.errors import CannotOpen
from engine.logs import sqlite_library
from engine.logs.sqlite_damage import damage_in_pages


class WithoutJson(sqlite3.Connection):
    """A connection of a SQLite that was built without its JSON functions."""

    @override
    def execute(self, sql: str, *_: object) -> sqlite3.Cursor:
        assert "json_each" in sql
        raise sqlite3.OperationalError("no such table: json_each")


class Checked(sqlite3.Connection):
    """A connection whose check of the pages finds what `problems` lists."""

    problems: tuple[str, ...] = ()

    @override
    def execute(self, sql: str, *_: object) -> sqlite3.Cursor:
        rows = ", ".join(["(?)"] * len(self.problems))
        return super().execute(f"VALUES {rows}", self.problems)


@pytest.fixture(autouse=True)
def ask_again() -> Iterator[None]:
    """What the library can do is found out anew in each test, and after it."""
    sqlite_library._has_json.cache_clear()
    yield
    sqlite_library._has_json.cache_clear()


@pytest.mark.parametrize("read_only", [False, True])
async def test_an_old_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: bool) -> None:
    """A SQLite without STRICT tables raises CannotOpen, which names the version needed, and no file is created."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(CannotOpen, match=r"is too old; 3\.37\.0 or later is needed"):
        async with open_engine(tmp_path / "runs.db", read_only=read_only):
            pass
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_library_without_json_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, read_only: bool
) -> None:
    """A SQLite 3.37 that was built without its JSON functions raises CannotOpen, and no file is created."""
    monkeypatch.setattr(sqlite_library, "connect", lambda path: sqlite3.connect(path, factory=WithoutJson))
    with pytest.raises(CannotOpen, match="was built without its JSON functions"):
        async with open_engine(tmp_path / "runs.db", read_only=read_only):
            pass
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.parametrize("unused", ["Page 16 is never used", "Page 16: never used"])
def test_unused_pages_are_no_damage(unused: str) -> None:
    """A page that is never used is no damage, in the words of SQLite 3.40 and in those of 3.43 and later."""
    with sqlite3.connect(":memory:", factory=Checked) as connection:
        connection.problems = ("*** in database main ***\n" + unused, "Tree 5 page 5: free space corruption")
        assert damage_in_pages(connection) == ["Tree 5 page 5: free space corruption"]
    connection.close()
