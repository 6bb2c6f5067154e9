"""Both twins of the run log store behind one awaitable interface, so that one suite tests both."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread

from engine import open_engine
from engine.events import RecordedEvent
from engine.model import Parameter
from engine.stores import BlockingRunLogStore, PartitionedRunLogStore


class Awaited:
    """A blocking store whose methods are called on a thread and awaited."""

    def __init__(self, store: BlockingRunLogStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await anyio.to_thread.run_sync(functools.partial(method, *args, **kwargs))

        return call


@asynccontextmanager
async def opened(twin: str, database: Path) -> AsyncIterator[Any]:
    """Open the `async` or the `blocking` twin on a file."""
    if twin == "async":
        async with open_engine(database) as engine:
            yield PartitionedRunLogStore(engine)
    else:
        store = BlockingRunLogStore(database)
        try:
            yield Awaited(store)
        finally:
            await anyio.to_thread.run_sync(store.close)


async def recorded(database: Path) -> list[RecordedEvent]:
    """Return every event in a file, read by a separate engine."""
    async with open_engine(database) as engine:
        return [event async for event in engine.events()]


def values(parameters: dict[str, Parameter]) -> dict[str, Any]:
    """Return parameters as plain values."""
    return {name: parameter.value for name, parameter in parameters.items()}
