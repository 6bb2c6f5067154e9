"""Verifying a store after a failed sync, before it may be written to again."""

from engine.errors import AnabranchError
from engine.logger import get_logger
from engine.logs.sqlite import SqliteEventLog
from engine.ports import Audit, ViewMaintenance

_log = get_logger(__name__)


async def settle(log: SqliteEventLog, audit: Audit, maintenance: ViewMaintenance) -> None:
    """Enable writing if the history is intact; otherwise the log stays read-only.

    Views that differ from the events are rebuilt.
    """
    try:
        problems = [each.message for each in (await audit.verify(None, None, None)).in_history]
    except AnabranchError as error:
        problems = [str(error)]
    if problems:
        _log.error("the history is damaged after a failed sync: read-only", path=str(log.path), problems=problems)
        log.settle(f"before it was opened, and its history is damaged: {problems[0]}")
        return
    log.settle(None)
    _log.warning("the history is intact after a failed sync", path=str(log.path))
    if await maintenance.compare(None):
        await maintenance.rebuild(None)
