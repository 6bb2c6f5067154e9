"""What `anabranch doctor` looks at, one check after the other. None waits for anybody longer than a moment."""

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
from engine.logs.sqlite_schema import LOG_TABLES, damage_in_log, damage_in_pages
from engine.model import FAILED_INIT, AttemptChanges
from engine.names import ROOT
from engine.ports import Progress, ViewDifference
from engine.reports.standing import is_orphaned
from engine.views import STATE_SCHEMA_VERSION, PlacedAttempt

Result = TypeVar("Result")

RESTORE: Final = "stop whoever writes to it, keep it with the files beside it, and put a backup in its place"

_VIEWS_FIRST: Final = f"{RESTORE}; no rebuild brings an event back, and the views may be the last to tell what it said"

_KEPT_BESIDE: Final = (
    "a retry under such a key is refused: who makes one has to look at what was recorded; the disk may fail, so that a"
    " backup is due"
)

_NAMED_MAX: Final = 5
_WRITTEN_AT_ONCE_MAX: Final = 500


class Check(Struct, frozen=True, kw_only=True):
    """What was looked at, what was found, and what to do about it.

    `details` are facts for scripts, of a shape of the check's own.
    """

    name: str
    state: Literal["ok", "found", "fixed"] = "ok"
    text: str
    advice: str = ""
    details: Any = None


async def checked(name: str, checking: Awaitable[Check]) -> Check:
    """Return what a check says; one that cannot be made is a finding, too."""
    try:
        return await checking
    except Exception as error:  # noqa: BLE001 - a doctor does not die of what the patient has
        text = f"cannot be checked: {type(error).__name__}: {said(error)}"
        return Check(name=name, state="found", text=text, advice=_advice(error))


def said(error: Exception) -> str:
    """Return what an error says, without the advice to ask the doctor."""
    return f"reading it failed: {error.cause}" if isinstance(error, ReadFailed) else str(error)


def _advice(error: Exception) -> str:
    match error:
        case CannotDecode() | EventOutOfPlace():
            return f"anabranch verify names what is lost, and no rebuild brings it back: {RESTORE}"
        case sqlite3.Error() | ReadFailed():
            return f"{RESTORE}; anabranch verify names what is lost"
        case _:
            return ""


async def check_file(engine: Engine) -> Check:
    """Ask SQLite whether the log's tables and their indexes are whole."""
    advice = f"{RESTORE}; anabranch verify names what is lost"
    return await _asked(engine, damage_in_log, "file", "SQLite finds the log's tables whole", "is damaged", advice)


async def check_pages(engine: Engine) -> Check:
    """Ask SQLite whether every page of the file is one table's, or free, and no page both."""
    advice = f"anabranch rebuild mends it where it is the views' alone; else {RESTORE}"
    return await _asked(engine, damage_in_pages, "pages", "each is one table's, or free", "are damaged", advice)


async def _asked(
    engine: Engine, question: Callable[[sqlite3.Connection], list[str]], name: str, well: str, ill: str, advice: str
) -> Check:
    problems = await asyncio.to_thread(_read, engine, question)
    if not problems:
        return Check(name=name, text=well)
    text = f"{ill}; SQLite says: {'; '.join(problems[:_NAMED_MAX])}"
    return Check(name=name, state="found", text=text, advice=advice, details=problems)


async def check_history(engine: Engine, progress: Callable[[str], Progress]) -> Check:
    """Compute every hash anew: no file that SQLite finds whole has to be one that lost no event."""
    found = await engine.verify(progress=progress("verifying"))
    if not found.problems:
        return Check(name="history", text=f"{counted(found.events, 'event')}: every hash, link and reduction holds")
    first = "; ".join(f"{each.kind}, {place_of(each)}: {each.message}" for each in found.problems[:_NAMED_MAX])
    more = len(found.problems) - _NAMED_MAX
    rest = f"; and {counted(more, 'more problem')}" if more > 0 else ""
    if not found.in_history:
        text = f"holds, and what is kept beside it does not: {first}{rest}"
        return Check(name="history", state="found", text=text, advice=_KEPT_BESIDE, details=found.problems)
    text = f"is not whole: {first}{rest}"
    return Check(name="history", state="found", text=text, advice=_VIEWS_FIRST, details=found.problems)


async def check_schema(engine: Engine) -> Check:
    """Look whether `schema_info` says what readers of the state views rely on, and nothing is hooked onto the log."""
    triggers = await asyncio.to_thread(_read, engine, _triggers)
    if triggers:
        named = ", ".join(f"{name} on {table}" for name, table in triggers)
        text = f"somebody else's {counted(len(triggers), 'trigger')} may change what is recorded: {named}"
        return Check(name="schema", state="found", text=text, advice="remove them: DROP TRIGGER", details=triggers)
    found = await asyncio.to_thread(_read, engine, _schema_versions)
    if found == [STATE_SCHEMA_VERSION]:
        return Check(name="schema", text=f"the state views are of version {STATE_SCHEMA_VERSION}")
    says = f"says {', '.join(found)}" if found else "says nothing"
    advice = "anabranch doctor --fix makes it anew with the views"
    text = f"schema_info {says}, and the version is {STATE_SCHEMA_VERSION}: who reads the state views goes by it"
    return Check(name="schema", state="found", text=text, advice=advice, details=found)


def _triggers(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Those on the log's tables: what is on the views' goes when these are made anew."""
    rows = connection.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
    return [(name, table) for name, table in rows if table in LOG_TABLES]


def _schema_versions(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT value FROM schema_info WHERE key = 'version'").fetchall()
    return [str(value) for (value,) in rows]


def _read(engine: Engine, reading: Callable[[sqlite3.Connection], Result]) -> Result:
    with inside_sqlite(), contextlib.closing(connect_read_only(engine.path)) as connection:
        return reading(connection)


async def check_views(engine: Engine, progress: Callable[[str], Progress], *, fix: bool) -> Check:
    """Fold the log anew and compare it with the views; make those anew when they differ."""
    wrong, differences = await _compared(engine, progress)
    if not wrong:
        return Check(name="views", text="say what the events say, row by row")
    if fix:
        await engine.rebuild(progress("rebuilding"))
        still, remaining = await _compared(engine, progress)
        if not still:
            return Check(name="views", state="fixed", text=f"made anew from the events ({wrong})", details=differences)
        wrong, differences = still, remaining
    text = f"do not say what the events say, which is what counts: {wrong}"
    advice = "anabranch doctor --fix, or anabranch rebuild, makes them anew from the events, if those are whole"
    return Check(name="views", state="found", text=text, advice=advice, details=differences)


async def _compared(engine: Engine, progress: Callable[[str], Progress]) -> tuple[str, list[ViewDifference]]:
    """Return what is wrong with the views, as a text that is empty when nothing is."""
    try:
        differences = await engine.verify_views(progress("comparing"))
    except ReadFailed as error:  # a table may be lost altogether
        return said(error), []
    rows = (
        f"{each.table}: {counted(each.missing, 'row')} missing, {each.unexpected:,} unexpected" for each in differences
    )
    return "; ".join(rows), differences


async def check_attempts(engine: Engine, orphaned_seconds: float, *, fix: bool) -> Check:
    """Look for attempts that nobody will submit any more, in any run; mark them as failed before they began."""
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
    advice = "where nobody is about to submit them, anabranch doctor --fix marks them FAILED_INIT"
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
    """Mark those that are orphaned still, as the write lock sees it, and return how many were."""
    by_run: dict[str, list[PlacedAttempt]] = {}
    for each in orphans:
        by_run.setdefault(each.run_id, []).append(each)
    marked = 0
    for run_id, of_run in by_run.items():
        for together in _batches(of_run):
            recorded = await engine.write(run_id, *map(_marking, together))
            marked += len(recorded.events)
    return marked


def _batches(attempts: Sequence[PlacedAttempt]) -> Iterator[Sequence[PlacedAttempt]]:
    for start in range(0, len(attempts), _WRITTEN_AT_ONCE_MAX):
        yield attempts[start : start + _WRITTEN_AT_ONCE_MAX]


def _marking(orphan: PlacedAttempt) -> ChangeAttempt:
    reason = f"orphaned: created {time_text(orphan.log.created_at)} UTC and never submitted"
    changes = AttemptChanges(status=FAILED_INIT, status_reason=reason)
    return ChangeAttempt(branch=orphan.branch, attempt_id=orphan.log.attempt_id, changes=changes, when="orphaned")
