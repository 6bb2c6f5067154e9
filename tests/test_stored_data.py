"""Stored data names no code: reading needs none of the writer's classes, and nothing stored is ever executed."""

import contextlib
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.codec import EVENT_TYPES, encode_canonical
from engine.errors import UnknownEventType
from engine.events import Event
from tests.golden.samples import SAMPLES
from tests.golden.test_golden import DATABASE

CODE = b"engine.", b"projections.", b"tests.", b"builtins", b"__main__"
PICKLED = b"\x80\x04", b"\x80\x05", b"ctypes\n", b"cbuiltins\n"

NAMES_OF_CODE: dict[str, Any] = {
    "__class__": "os.system",
    "__reduce__": ["os.system", ["touch ran"]],
    "py/object": "posix.system",
    "!!python/object/apply:os.system": ["touch ran"],
    "$type": "subprocess.Popen",
    "text": "__import__('os').system('touch ran')",
    "template": "{self.__class__.__mro__} ${jndi:ldap://nowhere} %(x)s",
}
"""Values that other formats execute when they are read."""


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_is_a_name_and_data(event: Event) -> None:
    """An event's type is a name from a fixed list, and its payload does not name the class that it was made from."""
    name, payload = type(event).__name__, encode_canonical(event)
    assert EVENT_TYPES[name] is type(event)
    assert name.isidentifier()
    assert not any(code in payload for code in (*CODE, name.encode()))


def _values(database: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every text and blob of a database with its table."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in connection.execute(f"SELECT * FROM {table}"):
                yield from ((table, str(value).encode()) for value in row if isinstance(value, str))
                yield from ((table, value) for value in row if isinstance(value, bytes))


async def test_no_table_names_code(tmp_path: Path) -> None:
    """No value in a database names code or is pickled data, after today's engine has opened the golden file."""
    database = Path(shutil.copy(DATABASE, tmp_path))
    async with open_engine(database):
        pass
    values = list(_values(database))
    assert len(values) > 100
    assert [(table, value) for table, value in values if any(code in value for code in CODE)] == []
    assert [(table, value) for table, value in values if value.startswith(PICKLED)] == []


async def test_values_that_name_code_are_data(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that name code come back as they were given, from the log and from the views, and are not executed."""
    monkeypatch.chdir(tmp_path)
    run = await engine.create_run("r", parameters=NAMES_OF_CODE, tags=NAMES_OF_CODE)
    await run.configure(NAMES_OF_CODE)
    await run.log_step("s", details=NAMES_OF_CODE)
    await engine.rebuild()
    assert {name: each.value for name, each in (await run.parameters()).items()} == NAMES_OF_CODE
    assert {name: each.value for name, each in (await run.parameters(at=2)).items()} == NAMES_OF_CODE
    assert (await run.compile()).steps["s"].details == NAMES_OF_CODE
    assert not (tmp_path / "ran").exists()


async def test_a_type_that_names_a_class_is_unknown(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class path as an event type in the log raises UnknownEventType with the position, and no module is imported."""
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    async with open_engine(database) as engine:
        await engine.create_run("r")
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("UPDATE events SET event_type = 'trap.Trap'")
        with pytest.raises(UnknownEventType) as caught:
            await anext(engine.events())
    assert (caught.value.event_type, caught.value.position) == ("trap.Trap", 1)
    assert "trap" not in sys.modules
