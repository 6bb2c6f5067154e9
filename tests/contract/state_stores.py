"""Both twins of the state store behind one awaitable interface, and objects of a host's shapes, for one suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.to_thread

from engine import open_engine
from engine.stores import Factories, SQLiteStateStore, StateStore
from tests.contract.run_log_stores import Awaited

BEGUN = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)

TWINS = ["async", "blocking"]


@asynccontextmanager
async def opened(twin: str, database: Path, factories: Factories | None = None) -> AsyncIterator[Any]:
    """Open the `async` or the `blocking` twin on a file, with relaxed durability for the speed of many tests."""
    if twin == "async":
        async with open_engine(database, durability="relaxed") as engine:
            yield StateStore(engine, factories)
    else:
        store: Any = SQLiteStateStore(database, factories, durability="relaxed")
        try:
            yield Awaited(store)
        finally:
            await anyio.to_thread.run_sync(store.close)


def handle(run_id: Any = "r", **attributes: Any) -> SimpleNamespace:
    """A run handle as a host passes it."""
    return SimpleNamespace(run_id=run_id, **{"workspace_slug": "lab", "root_path": Path("/data/r"), **attributes})


def metadata(**attributes: Any) -> SimpleNamespace:
    given: dict[str, Any] = {"created_at": BEGUN, "status": "PENDING", "tags": {"team": "x"}, "description": "first"}
    return SimpleNamespace(**{**given, **attributes})


def workflow(*task_ids: str, **fields: Any) -> SimpleNamespace:
    """A workflow of tasks with these ids, all with the same fields."""
    return SimpleNamespace(tasks={task_id: task(task_id, **fields) for task_id in task_ids})


def task(task_id: Any, **fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"task_id": task_id, "image": "python:3.12", "command": f"run {task_id}", **fields})


def external(task_id: Any = "a", **fields: Any) -> SimpleNamespace:
    """A handle of an external run as a host passes it."""
    given: dict[str, Any] = {"operator_type": "slurm", "external_id": None, "status": "CREATED", "operator_data": {}}
    return SimpleNamespace(**{"task_id": task_id, **given, "relative_path": None, **fields})


async def begin(store: Any, *task_ids: str, run_id: str = "r") -> None:
    """Create a run with tasks of these ids."""
    await store.create_run(handle(run_id), metadata())
    await store.add_workflow(workflow(*task_ids), run_id)


async def last_position(store: Any) -> int:
    """Return the last position in the store's file."""

    async def ask(twin: StateStore) -> int:
        return await twin._engine.last_position()

    return int(await (ask(store) if isinstance(store, StateStore) else store.call(ask)))
