"""Verifying a store whose last sync had failed, before it is written to again."""

from engine.errors import AnabranchError
from engine.logger import get_logger
from engine.logs.sqlite import SqliteEventLog
from engine.ports import Audit, ViewMaintenance

_log = get_logger(__name__)


async def settle(log: SqliteEventLog, audit: Audit, maintenance: ViewMaintenance) -> None:
    """Have the log written to again if its history is whole; else it is only to be read.

    Views that do not say what the events say are made anew.
    """
    try:
        problems = [each.message for each in (await audit.verify(None, None, None)).in_history]
    except AnabranchError as error:
        problems = [str(error)]
    if problems:
        _log.error("a sync had failed: nothing is written", path=str(log.path), problems=problems)
        log.settle(f"before it was opened, and its history is not whole: {problems[0]}")
        return
    log.settle(None)
    _log.warning("a sync had failed: its history is whole", path=str(log.path))
    if await maintenance.compare(None):
        await maintenance.rebuild(None)
