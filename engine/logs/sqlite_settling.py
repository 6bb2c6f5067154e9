"""Verifying a store whose last sync had failed, before it is written to again."""

from engine.errors import AnabranchError
from engine.logger import get_logger
from engine.logs.sqlite import SqliteEventLog
from engine.ports import Audit, ViewMaintenance

_log = get_logger(__name__)


async def settle(log: SqliteEventLog, audit: Audit, maintenance: ViewMaintenance) -> None:
    """Have the log written to again if history and views are whole; else it is only to be read."""
    try:
        problem = await _problem(audit, maintenance)
    except AnabranchError as error:
        problem = str(error)
    if problem is None:
        _log.warning("a sync had failed: what is there is whole", path=str(log.path))
        log.settle(None)
    else:
        _log.error("a sync had failed: nothing is written", path=str(log.path), problem=problem)
        log.settle(f"before it was opened, and it is not whole: {problem}")


async def _problem(audit: Audit, maintenance: ViewMaintenance) -> str | None:
    for problem in (await audit.verify(None, None, None)).problems:
        return problem.message
    for difference in await maintenance.compare(None):
        return f"view {difference.table} is not what the events say"
    return None
