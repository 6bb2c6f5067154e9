"""The checks of `anabranch doctor` that read the database. No check waits for another process longer than a moment."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

from msgspec import Struct

from engine import Engine
from engine.cli.text import counted, duration_text, place_of, time_text
from engine.commands import ChangeAttempt
from engine.errors import CannotDecode, EventOutOfPlace, ReadFailed
from engine.logs.forking import inside_sqlite
from engine.logs.readers import connect_read_only
from engine.logs.sqlite_damage import damage_in_log, damage_in_pages
from engine.logs.sqlite_schema import LOG_TABLES
from engine.model import FAILED_INIT, AttemptChanges
from engine.names import ROOT
from engine.ports import Progress, ViewDifference
from engine.reports.standing import is_orphaned
from engine.views import STATE_SCHEMA_VERSION, PlacedAttempt

Result = TypeVar("Result")

RESTORE: Final = "stop every writer, keep the file and the files beside it, and put a backup in its place"

_RESTORE_HISTORY: Final = f"{RESTORE}; no rebuild restores an event, and only the views may still hold what it said"

_CHECK_RETRIES: Final = (
    "a retry with such a key is refused: check by hand what was recorded; the disk may be failing, so make a backup"
)

_NAMED_MAX: Final = 5
_BATCH_MAX: Final = 500


class Check(Struct, frozen=True, kw_only=True):
    """What was checked, what was found, and what to do about it.

    `details` are facts for scripts; their shape depends on the check.
    """

    name: str
    state: Literal["ok", "found", "fixed"] = "ok"
    text: str
    advice: str = ""
    details: Any = None


async def checked(name: str, checking: Awaitable[Check]) -> Check:
    """Return the result of a check; a check that raises is a finding."""
    try:
        return await checking
    except Exception as error:  # noqa: BLE001 - damage that breaks one check must not hide the others
        text = f"cannot be checked: {type(error).__name__}: {message_of(error)}"
        return Check(name=name, state="found", text=text, advice=_advice(error))


def message_of(error: Exception) -> str:
    """Return an error's message, without its advice to run `anabranch doctor`."""
    return f"reading it failed: {error.cause}" if isinstance(error, ReadFailed) else str(error)


def _advice(error: Exception) -> str:
    match error:
        case CannotDecode() | EventOutOfPlace():
            return f"anabranch verify names what is lost, and no rebuild restores it: {RESTORE}"
        case sqlite3.Error() | ReadFailed():
            return f"{RESTORE}; anabranch verify names what is lost"
        case _:
            return ""


async def check_file(engine: Engine) -> Check:
    """Check with SQLite that the log's tables and their indexes are intact."""
    problems = await asyncio.to_thread(_read, engine, damage_in_log)
    if not problems:
        return Check(name="file", text="SQLite finds the log's tables intact")
    text, advice = f"is damaged; {_first_of(problems)}", f"{RESTORE}; anabranch verify names what is lost"
    return Check(name="file", state="found", text=text, advice=advice, details=problems)


async def check_pages(engine: Engine) -> Check:
    """Check with SQLite that every page of the file is either free or belongs to one table."""
    problems = await asyncio.to_thread(_read, engine, damage_in_pages)
    if not problems:
        return Check(name="pages", text="each belongs to one table, or is free")
    advice = f"anabranch rebuild repairs damage that is only in the views; otherwise {RESTORE}"
    text = f"are damaged; {_first_of(problems)}"
    return Check(name="pages", state="found", text=text, advice=advice, details=problems)


def _first_of(problems: Sequence[str]) -> str:
    return f"SQLite says: {'; '.join(problems[:_NAMED_MAX])}"


async def check_history(engine: Engine, progress: Callable[[str], Progress]) -> Check:
    """Recompute every hash: a file that SQLite finds intact may still have lost events."""
    found = await engine.verify(progress=progress("verifying"))
    if not found.problems:
        return Check(name="history", text=f"{counted(found.events, 'event')}: every hash, link and reduction holds")
    first = "; ".join(f"{each.kind}, {place_of(each)}: {each.message}" for each in found.problems[:_NAMED_MAX])
    more = len(found.problems) - _NAMED_MAX
    rest = f"; and {counted(more, 'more problem')}" if more > 0 else ""
    if not found.in_history:
        text = f"holds, but records kept beside it are damaged: {first}{rest}"
        return Check(name="history", state="found", text=text, advice=_CHECK_RETRIES, details=found.problems)
    text = f"is damaged: {first}{rest}"
    return Check(name="history", state="found", text=text, advice=_RESTORE_HISTORY, details=found.problems)


async def check_schema(engine: Engine) -> Check:
    """Check that `schema_info` has the version that readers of the state views expect, and the log has no triggers."""
    triggers = await asyncio.to_thread(_read, engine, _triggers)
    if triggers:
        named = ", ".join(f"{name} on {table}" for name, table in triggers)
        text = f"{counted(len(triggers), 'foreign trigger')} may change what is recorded: {named}"
        return Check(name="schema", state="found", text=text, advice="remove with DROP TRIGGER", details=triggers)
    found = await asyncio.to_thread(_read, engine, _schema_versions)
    if found == [STATE_SCHEMA_VERSION]:
        return Check(name="schema", text=f"the state views have version {STATE_SCHEMA_VERSION}")
    says = f"has version {', '.join(found)}" if found else "has no version"
    advice = "anabranch doctor --fix rebuilds it with the views"
    text = f"schema_info {says}, not {STATE_SCHEMA_VERSION}: readers of the state views rely on it"
    return Check(name="schema", state="found", text=text, advice=advice, details=found)


def _triggers(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the triggers on the log's tables; those on the views' tables go when the views are rebuilt."""
    rows = connection.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
    return [(name, table) for name, table in rows if table in LOG_TABLES]


def _schema_versions(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT value FROM schema_info WHERE key = 'version'").fetchall()
    return [str(value) for (value,) in rows]


def _read(engine: Engine, reading: Callable[[sqlite3.Connection], Result]) -> Result:
    with inside_sqlite(), contextlib.closing(connect_read_only(engine.path)) as connection:
        return reading(connection)


async def check_views(engine: Engine, progress: Callable[[str], Progress], *, fix: bool) -> Check:
    """Fold the log and compare the result with the views; with `fix`, rebuild views that differ."""
    wrong, differences = await _view_differences(engine, progress)
    if not wrong:
        return Check(name="views", text="match the events, row by row")
    if fix:
        await engine.rebuild(progress("rebuilding"))
        still_wrong, remaining = await _view_differences(engine, progress)
        if not still_wrong:
            return Check(name="views", state="fixed", text=f"rebuilt from the events ({wrong})", details=differences)
        wrong, differences = still_wrong, remaining
    text = f"do not match the events, which are authoritative: {wrong}"
    advice = "anabranch doctor --fix, or anabranch rebuild, rebuilds them from the events, if those are intact"
    return Check(name="views", state="found", text=text, advice=advice, details=differences)


async def _view_differences(engine: Engine, progress: Callable[[str], Progress]) -> tuple[str, list[ViewDifference]]:
    """Return a text of how the views differ from the events, empty when they match; and the differences."""
    try:
        differences = await engine.verify_views(progress("comparing"))
    except ReadFailed as error:  # a whole table may be lost
        return message_of(error), []
    rows = (
        f"{each.table}: {counted(each.missing, 'row')} missing, {each.unexpected:,} unexpected" for each in differences
    )
    return "; ".join(rows), differences


async def check_attempts(engine: Engine, orphaned_seconds: float, *, fix: bool) -> Check:
    """Look for orphaned attempts in all runs; with `fix`, mark them FAILED_INIT."""
    orphans = await _orphans(engine, orphaned_seconds)
    after = duration_text(orphaned_seconds)
    if not orphans:
        return Check(name="attempts", text=f"none was left unsubmitted for {after} or longer")
    details = [{"run_id": each.run_id, "branch": each.branch, "attempt": each.log} for each in orphans]
    if fix:
        marked = await _mark(engine, orphans)
        orphans = await _orphans(engine, orphaned_seconds)
        if not orphans:
            text = f"{counted(marked, 'orphaned attempt')} marked FAILED_INIT"
            return Check(name="attempts", state="fixed", text=text, details=details)
    verb = "was" if len(orphans) == 1 else "were"
    text = f"{counted(len(orphans), 'attempt')} {verb} created {after} ago or earlier and never submitted: "
    advice = "anabranch doctor --fix marks them FAILED_INIT; make sure that nothing is about to submit them"
    return Check(name="attempts", state="found", text=text + _names(orphans), advice=advice, details=details)


async def _orphans(engine: Engine, orphaned_seconds: float) -> list[PlacedAttempt]:
    now = datetime.now(UTC)
    found = await engine.views.tasks.unfinished(None)
    return [each for each in found if is_orphaned(each.log, now, orphaned_seconds)]


def _names(orphans: Sequence[PlacedAttempt]) -> str:
    named = [
        f"{each.run_id}{f' {each.branch}' if each.branch != ROOT else ''}: {each.log.step} #{each.log.attempt_index}"
        for each in orphans[:_NAMED_MAX]
    ]
    more = len(orphans) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


async def _mark(engine: Engine, orphans: Sequence[PlacedAttempt]) -> int:
    """Mark the attempts that are still orphaned, decided under the write lock, and return how many were."""
    by_run: dict[str, list[PlacedAttempt]] = {}
    for each in orphans:
        by_run.setdefault(each.run_id, []).append(each)
    marked = 0
    for run_id, of_run in by_run.items():
        for batch in _batches(of_run):
            recorded = await engine.write(run_id, *map(_mark_command, batch))
            marked += len(recorded.events)
    return marked


def _batches(attempts: Sequence[PlacedAttempt]) -> Iterator[Sequence[PlacedAttempt]]:
    for start in range(0, len(attempts), _BATCH_MAX):
        yield attempts[start : start + _BATCH_MAX]


def _mark_command(orphan: PlacedAttempt) -> ChangeAttempt:
    reason = f"orphaned: created {time_text(orphan.log.created_at)} UTC and never submitted"
    changes = AttemptChanges(status=FAILED_INIT, status_reason=reason)
    return ChangeAttempt(branch=orphan.branch, attempt_id=orphan.log.attempt_id, changes=changes, when="orphaned")
