"""A state machine of the state store against a model of plain dictionaries: after every move, both agree."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Coroutine
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from typing_extensions import override

from engine import Engine, open_engine
from engine.errors import AmbiguousTask, NotFound, RunExists
from engine.stores import StateStore, TaskAttempt
from tests.property.state_model import Ambiguous, Missing, ModelAttempt, ModelRun, ModelStore, ModelTask, same

Result = TypeVar("Result")
Write = Coroutine[Any, Any, Any]

RUNS = st.sampled_from(["r", "s"])
SOME_RUN = st.sampled_from([None, "r", "s"])
TASKS = st.sampled_from(["a", "b", "c"])
STATUSES = st.sampled_from(["CREATED", "RUNNING", "COMPLETED", "FAILED"])
REASONS = st.sampled_from([None, "why", "no space"])
DATA = st.sampled_from([{}, {"x": [1, None]}, {"loss": float("nan")}])
TEXTS = st.sampled_from([None, "x", "y"])
SPECS = st.fixed_dictionaries(
    {"image": st.sampled_from(["", "python"]), "memory_gb": st.sampled_from([None, 1.5, float("nan")])}
    | {"env": st.sampled_from([{}, {"A": "1"}])}
)
EXTERNAL_RUNS = st.fixed_dictionaries(
    {"operator_type": st.sampled_from(["hpc", "local"]), "status": STATUSES}
    | {"external_id": TEXTS, "operator_data": DATA, "relative_path": TEXTS}
)
CHANGES = st.fixed_dictionaries(
    {"status": st.one_of(st.none(), STATUSES), "status_reason": REASONS}
    | {"external_id": TEXTS, "operator_key": TEXTS, "operator_data": st.one_of(st.none(), DATA)}
)
TABLES = ("runs", "tasks", "task_attempts", "external_runs", "schema_info")


class StateStoreMachine(RuleBasedStateMachine):
    """Moves on a store and on the model; after each move, all reads and the number of events are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Path(self.folder.name) / "runs.db"
        self.runner = asyncio.Runner()
        self.model = ModelStore()
        self.attempt_ids: list[str] = []
        self.stamps: dict[tuple[str, str], datetime] = {}
        self.engine = self.run(self._open())

    async def _open(self) -> Engine:
        return await open_engine(self.database, durability="relaxed")

    @property
    def store(self) -> StateStore:
        return StateStore(self.engine)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    @override
    def teardown(self) -> None:
        try:
            self.rebuild()
        finally:
            self.run(self.engine.close())
            self.runner.close()
            self.folder.cleanup()

    def rows(self) -> dict[str, list[Any]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES}

    def place(self, task_id: str, run_id: str | None, write: Write) -> ModelTask | None:
        """Write to a task and return the model's task, or None where the store rightly finds no task or several."""
        try:
            task = self.model.task(task_id, run_id)
        except Missing:
            with pytest.raises(NotFound, match=r"'[rsabc]'"):
                self.run(write)
        except Ambiguous:
            with pytest.raises(AmbiguousTask, match=r"run '[rs]' and run '[rs]'"):
                self.run(write)
        else:
            self.run(write)
            return task
        return None

    @initialize()
    def begin(self) -> None:
        self.create_run("r", "PENDING", {})
        self.add_workflow("r", {"a": {"image": "", "memory_gb": None, "env": {}}})
        self.create_attempt("a", "r", "CREATED", None, {})

    @rule(run_id=RUNS, status=STATUSES, tags=DATA)
    def create_run(self, run_id: str, status: str, tags: dict[str, Any]) -> None:
        write = self.store.create_run(
            {"run_id": run_id, "root_path": f"/{run_id}"},
            {"created_at": datetime(2026, 1, 1, tzinfo=UTC), "status": status, "tags": tags},
        )
        if run_id in self.model.runs:
            with pytest.raises(RunExists):
                self.run(write)
        else:
            self.run(write)
            self.model.create_run(run_id, status, tags)

    @rule(run_id=RUNS, status=STATUSES, reason=REASONS)
    def set_run_status(self, run_id: str, status: str, reason: str | None) -> None:
        write = self.store.set_run_status(run_id, status, reason)
        if run_id not in self.model.runs:
            with pytest.raises(NotFound, match=run_id):
                self.run(write)
        else:
            self.run(write)
            self.model.set_run_status(run_id, status, reason)

    @rule(run_id=RUNS, specs=st.dictionaries(TASKS, SPECS, max_size=3))
    def add_workflow(self, run_id: str, specs: dict[str, dict[str, Any]]) -> None:
        write = self.store.add_workflow({"tasks": specs}, run_id)
        if run_id not in self.model.runs:
            with pytest.raises(NotFound, match=run_id):
                self.run(write)
        else:
            self.run(write)
            self.model.add_workflow(run_id, specs)

    @rule(task_id=TASKS, run_id=SOME_RUN, status=STATUSES)
    def update_task_status(self, task_id: str, run_id: str | None, status: str) -> None:
        task = self.place(task_id, run_id, self.store.update_task_status(task_id, status, run_id))
        if task is not None:
            self.model.set_task_status(task, status)

    @rule(task_id=TASKS, run_id=SOME_RUN)
    def delete_task(self, task_id: str, run_id: str | None) -> None:
        task = self.place(task_id, run_id, self.store.delete_task(task_id, run_id))
        if task is not None:
            self.model.delete(task)

    @rule(task_id=TASKS, run_id=RUNS, given=EXTERNAL_RUNS)
    def register_external_run(self, task_id: str, run_id: str, given: dict[str, Any]) -> None:
        write = self.store.register_external_run({"task_id": task_id, **given}, run_id)
        task = self.place(task_id, run_id, write)
        if task is not None:
            self.model.register(task, given)

    @rule(task_id=TASKS, run_id=SOME_RUN, given=EXTERNAL_RUNS)
    def update_external_run(self, task_id: str, run_id: str | None, given: dict[str, Any]) -> None:
        write = self.store.update_external_run({"task_id": task_id, **given}, run_id)
        try:
            self.model.update_external(self.model.task(task_id, run_id), given)
        except (Missing, Ambiguous):
            with pytest.raises((NotFound, AmbiguousTask)):
                self.run(write)
        else:
            self.run(write)

    @rule(task_id=TASKS, run_id=SOME_RUN)
    def cancel_external_runs(self, task_id: str, run_id: str | None) -> None:
        task = self.place(task_id, run_id, self.store.cancel_external_runs(task_id, run_id))
        if task is not None:
            self.model.cancel(task)

    @rule(task_id=TASKS, run_id=RUNS, status=STATUSES, operator_key=TEXTS, data=DATA)
    def create_attempt(
        self, task_id: str, run_id: str, status: str, operator_key: str | None, data: dict[str, Any]
    ) -> None:
        fields: dict[str, Any] = {"status": status, "operator_key": operator_key, "operator_data": data}

        async def create() -> None:
            self.attempt_ids.append(await self.store.create_attempt(run_id, task_id, **fields))

        task = self.place(task_id, run_id, create())
        if task is not None:
            self.model.create_attempt(task, self.attempt_ids[-1], **fields)

    @rule(task_id=TASKS, run_id=RUNS)
    def create_attempts_at_once(self, task_id: str, run_id: str) -> None:
        """Attempts created concurrently get consecutive numbers."""
        created: list[str] = []

        async def create() -> None:
            tasks = [self.store.create_attempt(run_id, task_id) for _ in range(3)]
            created.extend(await asyncio.gather(*tasks))

        task = self.place(task_id, run_id, create())
        if task is not None:
            found = {
                each.attempt_id: each.attempt_index for each in self.run(self.store.list_attempts(task_id, run_id))
            }
            for attempt_id in sorted(created, key=found.__getitem__):
                self.model.create_attempt(task, attempt_id, status="CREATED")
            self.attempt_ids += created

    @rule(data=st.data(), changes=CHANGES)
    def update_attempt(self, data: st.DataObject, changes: dict[str, Any]) -> None:
        attempt_id = data.draw(st.sampled_from([*self.attempt_ids, "unknown"]))
        write = self.store.update_attempt(attempt_id, **changes)
        try:
            attempt = self.model.attempt(attempt_id)
        except Missing:
            with pytest.raises(NotFound, match=attempt_id):
                self.run(write)
        else:
            self.run(write)
            self.model.update_attempt(attempt, changes)

    @rule(data=st.data())
    def mark_attempts_failed_init(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from([*self.attempt_ids, "unknown"]), max_size=3, unique=True))
        write = self.store.mark_attempts_failed_init(ids, "lost")
        try:
            attempts = [self.model.attempt(attempt_id) for attempt_id in ids]
        except Missing:
            with pytest.raises(NotFound):
                self.run(write)
        else:
            assert self.run(write) == self.model.mark_failed_init(attempts, "lost")

    @rule()
    def reopen(self) -> None:
        self.run(self.engine.close())
        self.engine = self.run(self._open())

    @rule()
    def rebuild(self) -> None:
        """The views verify, and a rebuild leaves their rows unchanged."""
        before = self.rows()
        assert self.run(self.engine.verify_views()) == []
        self.run(self.engine.rebuild())
        assert self.rows() == before

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        assert self.run(self.engine.last_position()) == self.model.events
        self.run(self._compare())

    async def _compare(self) -> None:
        for run_id in ("r", "s"):
            run = self.model.runs.get(run_id)
            if run is None:
                assert await self.store.get_run(run_id) is None
            else:
                await self._compare_run(run_id, run)
                for task_id in ("a", "b", "c"):
                    await self._compare_task(run_id, task_id, run.tasks.get(task_id))

    async def _compare_run(self, run_id: str, run: ModelRun) -> None:
        store = self.store
        found = await store.get_run_metadata(run_id)
        assert found is not None
        assert (found.status, await store.get_run_status_reason(run_id)) == (run.status, run.reason)
        assert same(found.tags, run.metadata)
        assert [each.task_id for each in await store.get_tasks(run_id)] == list(run.tasks)
        assert {each.attempt_id for each in await store.get_active_attempts(run_id)} == run.active()
        assert {each.attempt_id for each in await store.find_orphaned_attempts(run_id, 0)} == run.orphans()
        assert await store.count_active_attempts_by_operator(run_id) == run.operators()
        attempted = {task_id for task_id, task in run.tasks.items() if task.attempts}
        assert await store.get_attempt_task_ids(run_id) == attempted

    async def _compare_task(self, run_id: str, task_id: str, task: ModelTask | None) -> None:
        store = self.store
        attempts = await store.list_attempts(task_id, run_id)
        external_run = await store.get_external_run(task_id, run_id)
        current = await store.get_current_attempt(task_id, run_id)
        if task is None:
            assert (await store.get_task_status(task_id, run_id), attempts, external_run, current) == (
                None,
                [],
                None,
                None,
            )
            return
        (found,) = [each for each in await store.get_tasks(run_id) if each.task_id == task_id]
        assert same({name: getattr(found, name) for name in task.spec}, task.spec)
        assert (found.status, await store.get_task_status(task_id, run_id)) == (task.status, task.status)
        assert current == (attempts[-1] if attempts else None)
        for attempt, model in zip(attempts, task.attempts, strict=True):
            self._compare_attempt(attempt, model)
        said = None if external_run is None else {name: getattr(external_run, name) for name in task.external_run or {}}
        if said is not None:
            said["relative_path"] = None if said["relative_path"] is None else str(said["relative_path"])
        assert same(said, task.external_run)

    def _compare_attempt(self, attempt: TaskAttempt, model: ModelAttempt) -> None:
        names = ("attempt_id", "attempt_index", "status", "operator_key", "external_id", "status_reason")
        assert [getattr(attempt, name) for name in names] == [getattr(model, name) for name in names]
        assert same(attempt.operator_data, model.operator_data)
        assert (attempt.submitted_at is not None, attempt.ended_at is not None) == (model.submitted, model.ended)
        for name in ("submitted_at", "ended_at"):  # once stamped, they never change
            moment = getattr(attempt, name)
            if moment is not None:
                assert self.stamps.setdefault((attempt.attempt_id, name), moment) == moment


COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

TestStateStore = StateStoreMachine.TestCase
TestStateStore.settings = settings(COMMON, max_examples=15, stateful_step_count=25)


class LongStateStoreMachine(StateStoreMachine):
    """The same moves, in more and longer sequences."""


TestManyStates = pytest.mark.slow(LongStateStoreMachine.TestCase)
TestManyStates.settings = settings(COMMON, max_examples=80, stateful_step_count=50)
