"""The event logs that the contract tests run against, and the requests that these tests make.

To test another log, add a line to `LOGS` with the function that opens it on a path of its own.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from engine import open_engine
from engine.commands import Command, Fork, OpenRun, Record, Request
from engine.events import ParametersSet, RecordedEvent
from engine.expected_version import ANY, ExpectedVersion
from engine.model import Parameter
from engine.ports import Answer, EventFilter, EventLog, Recorded

OpenLog: TypeAlias = Callable[[Path], contextlib.AbstractAsyncContextManager[EventLog]]


@contextlib.asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[EventLog]:
    async with open_engine(path, durability="relaxed", event_bytes_max=5000) as engine:
        yield engine._log


LOGS: dict[str, OpenLog] = {"sqlite": open_sqlite}


def request(
    run_id: str,
    *commands: Command,
    expected: ExpectedVersion = ANY,
    key: str | None = None,
) -> Request:
    return Request(run_id=run_id, commands=commands, expected_version=expected, idempotency_key=key)


def create(run_id: str, **options: Any) -> Request:
    """Request to open a run."""
    return request(run_id, OpenRun(), **options)


def fork(run_id: str, branch: str, parent: str = "", **options: Any) -> Request:
    return request(run_id, Fork(branch=branch, parent=parent), **options)


def setting(value: Any, branch: str = "") -> Record:
    """Command to set the parameter x."""
    return Record(branch=branch, events=(ParametersSet(branch=branch, values={"x": Parameter(value)}),))


def put(run_id: str, value: Any, branch: str = "", **options: Any) -> Request:
    """Request to set the parameter x."""
    return request(run_id, setting(value, branch), **options)


async def append(log: EventLog, *requests: Request) -> Sequence[Answer]:
    """Append a batch and assert that every request of it is recorded."""
    answers = await log.append(requests)
    assert [answer for answer in answers if not isinstance(answer, Recorded)] == []
    return answers


async def append_one(log: EventLog, one: Request) -> Recorded:
    """Append one request by itself; raise the error if it is refused."""
    (answer,) = await log.append([one])
    if isinstance(answer, Exception):
        raise answer
    return answer


async def read(
    log: EventLog, events: EventFilter | None = None, *, after: int = 0, until: int | None = None, limit: int = 1000
) -> list[RecordedEvent]:
    found, _ = await log.read(events or EventFilter(), after, until, limit)
    return found


def values(events: Sequence[RecordedEvent]) -> list[Any]:
    """Return the values that the events set x to, skipping events that set no parameters."""
    return [each.event.values["x"].value for each in events if isinstance(each.event, ParametersSet)]
