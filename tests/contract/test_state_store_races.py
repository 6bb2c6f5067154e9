"""Races between finding a task and writing to it: a write that is too late raises an error."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine import Engine
from engine.errors import AnabranchError, AttemptNotFound, ExternalRunNotFound, NotFound, TaskNotFound
from engine.stores import StateStore
from engine.stores.task_places import TaskPlaces
from tests.contract.state_stores import begin, external, workflow

Write = Callable[[StateStore, str], Any]

WRITES: dict[str, tuple[Write, type[AnabranchError]]] = {
    "update_task_status": (lambda store, _: store.update_task_status("a", "RUNNING"), TaskNotFound),
    "delete_task": (lambda store, _: store.delete_task("a"), TaskNotFound),
    "cancel_external_runs": (lambda store, _: store.cancel_external_runs("a"), TaskNotFound),
    "register_external_run": (lambda store, _: store.register_external_run(external("a"), "r"), TaskNotFound),
    "update_external_run": (lambda store, _: store.update_external_run(external("a")), ExternalRunNotFound),
    "create_attempt": (lambda store, _: store.create_attempt("r", "a"), TaskNotFound),
    "update_attempt": (lambda store, attempt_id: store.update_attempt(attempt_id, status="FAILED"), AttemptNotFound),
    "mark": (lambda store, attempt_id: store.mark_attempts_failed_init([attempt_id]), AttemptNotFound),
}


async def begun(engine: Engine) -> tuple[StateStore, str]:
    """Create a run with a task that has an external run and an attempt; return the attempt's id with the store."""
    store = StateStore(engine)
    await begin(store, "a")
    await store.register_external_run(external("a", status="RUNNING"), "r")
    return store, await store.create_attempt("r", "a")


@pytest.mark.parametrize("write", WRITES)
async def test_a_task_that_is_deleted_after_it_was_found(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """Writing to a task that is deleted after it was found raises the error for an unknown one and records nothing."""
    store, attempt_id = await begun(engine)
    late, other = StateStore(engine), TaskPlaces(engine.views)

    async def found(method: str, *place: Any) -> Any:
        answer = await getattr(other, method)(*place)
        await store.delete_task("a", "r")
        return answer

    for method in ("find", "existing", "attempt"):
        monkeypatch.setattr(late._places, method, lambda *place, method=method: found(method, *place))
    call, error = WRITES[write]
    with pytest.raises(error, match="'a'" if error is not AttemptNotFound else attempt_id):
        await call(late, attempt_id)
    assert [type(each.event).__name__ async for each in engine.events()][-1] == "StepRemoved"
    assert await engine.verify_views() == []


@pytest.mark.parametrize("write", WRITES)
async def test_a_task_that_is_deleted_and_added_while_it_is_written_to(engine: Engine, write: str) -> None:
    """A write beside a deletion and an addition of its task is recorded or raises a NotFound error."""
    store, attempt_id = await begun(engine)
    call, _ = WRITES[write]
    for _ in range(5):
        moves = (store.delete_task("a"), call(store, attempt_id), store.add_workflow(workflow("a"), "r"))
        answers = await asyncio.gather(*moves, return_exceptions=True)
        assert all(isinstance(answer, NotFound) for answer in answers if isinstance(answer, BaseException))
        await store.add_workflow(workflow("a"), "r")
        await store.register_external_run(external("a"), "r")
        attempt_id = await store.create_attempt("r", "a")
    assert await engine.verify_views() == []


async def test_attempts_that_are_created_at_once_have_numbers_of_their_own(engine: Engine) -> None:
    """Attempts created concurrently get different indexes, and the last is the current one."""
    store, first = await begun(engine)
    created = await asyncio.gather(*(store.create_attempt("r", "a") for _ in range(50)))
    attempts = await store.list_attempts("a")
    assert [each.attempt_index for each in attempts] == list(range(1, 52))
    assert {each.attempt_id for each in attempts} == {first, *created}
    assert await store.get_current_attempt("a") == attempts[-1]
