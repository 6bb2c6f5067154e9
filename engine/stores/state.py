"""The state store: runs, tasks, attempts and external runs, with the method names that orchestrators call.

A task is a step with a specification, in the run's root branch; a task that was logged in another branch is found, too.
A task id given without a run id must be unique among the runs. Each call is one atomic request for one run. Writing
what is already recorded records nothing.

Reading by an unknown id returns None or an empty result; writing to one raises a `NotFound`, which is a `ValueError`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any

from msgspec import structs

from engine.commands import (
    CancelExternalRun,
    ChangeAttempt,
    Command,
    CreateAttempt,
    LogExternalRun,
    LogTask,
    OpenRun,
    RemoveStep,
    SetStatus,
    SetStepStatus,
)
from engine.encoding.event_ids import new_event_id
from engine.encoding.values import check_document, check_function, check_several, check_text
from engine.errors import ExternalRunNotFound, InvalidValue, RunNotFound, StepNotFound, TaskNotFound
from engine.events import AttemptUpdated, ExternalRunRegistered, ExternalRunUpdated
from engine.handles.engine import Engine
from engine.model import CREATED, FAILED_INIT, TERMINAL_STATUSES, AttemptChanges, RunInfo
from engine.names import check_name
from engine.ports import Recorded
from engine.reports.standing import ORPHANED_SECONDS, is_orphaned
from engine.stores import task_documents as documents
from engine.stores import task_recording as recording
from engine.stores.run_lock import RunLock
from engine.stores.task_documents import (
    ExternalRunHandle,
    Factories,
    RunHandle,
    RunMetadata,
    Task,
    TaskAttempt,
    make,
)
from engine.stores.task_places import Place, TaskPlaces, attempts_of
from engine.stores.task_recording import optional_document, optional_text, status_of
from engine.stores.twin import checked_engine
from engine.times import to_microseconds
from engine.turns import listed
from engine.views import PlacedAttempt


def _utc_now() -> datetime:
    return datetime.now(UTC)


class StateStore:
    """Tasks and attempts on an engine. Accepts any objects with the attributes of the structs that it returns.

    Args:
        engine: open; the caller closes it.
        factories: what makes the objects that it returns.
        clock: returns the current time, aware, to compute the ages of attempts; by default the system's clock.

    Raises:
        InvalidValue: `factories` is not a `Factories`, or the clock is not callable.
    """

    def __init__(
        self, engine: Engine, factories: Factories | None = None, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._engine = checked_engine(engine, "SQLiteStateStore")
        self._views = engine.views
        self._places = TaskPlaces(engine.views)
        self._factories = documents.checked_factories(factories)
        self._clock = check_function(clock, "clock") or _utc_now

    def lock(self) -> RunLock:
        """Return the lock of the database's folder, for `async with` or `with`. Entering it does not wait.

        Raises (when it is entered):
            RunLocked
        """
        return RunLock(self._engine.path.parent)

    async def create_run(self, handle: object, metadata: object | None = None) -> None:
        """Open a run.

        Args:
            handle: has `run_id`, `workspace_slug` and `root_path`.
            metadata: has `created_at`, `status`, `tags` and `description`.

        Raises:
            RunExists
        """
        await self._engine.write(recording.run_id_of(handle), OpenRun(event=recording.run_created(handle, metadata)))

    async def get_run(self, run_id: str) -> RunHandle | None:
        info = await self._info(run_id)
        return None if info is None else make(self._factories, documents.run_handle(info))

    async def get_run_metadata(self, run_id: str) -> RunMetadata | None:
        info = await self._info(run_id)
        return None if info is None else make(self._factories, documents.run_metadata(info))

    async def get_run_status(self, run_id: str) -> str | None:
        info = await self._info(run_id)
        return None if info is None else info.status

    async def get_run_status_reason(self, run_id: str) -> str | None:
        """Return the last reason given for the run's status."""
        info = await self._info(run_id)
        return None if info is None else info.status_reason

    async def set_run_status(self, run_id: str, status: str, reason: str | None = None) -> None:
        """Set a run's status; without a new reason, the last one is kept.

        Raises:
            RunNotFound
        """
        command = SetStatus(status=status_of(status), reason=optional_text(reason, "reason"), keep_reason=True)
        await self._engine.write(run_id, command)

    async def add_workflow(self, workflow: object, run_id: str) -> None:
        """Record the tasks of a workflow, given by id in `workflow.tasks`.

        New tasks are PENDING, known ones keep their status. A task inherited from the source of a fork stays inherited
        unless its specification differs: then it is a new, PENDING task.

        Raises:
            RunNotFound
        """
        specs = await listed(recording.task_specs(workflow))
        if not specs:
            await self._views.run_info(check_name(run_id, "run id"))
            return
        await self._engine.write(run_id, *(LogTask(task_id=task_id, spec=spec) for task_id, spec in specs))

    async def get_tasks(self, run_id: str) -> list[Task]:
        """Return a run's tasks in the order they were first added."""
        found = await self._views.tasks.tasks(check_name(run_id, "run id"))
        return await listed(make(self._factories, documents.task(step)) for _, step in found)

    async def get_task_status(self, task_id: str, run_id: str | None = None) -> str | None:
        found = await self._places.step(task_id, run_id)
        return None if found is None else found[1].status

    async def update_task_status(self, task_id: str, status: str, run_id: str | None = None) -> None:
        """Set a task's status.

        Raises:
            TaskNotFound
        """
        task_id = check_name(task_id, "task id")
        where, branch = await self._places.existing(task_id, run_id)
        await self._write_task(where, SetStepStatus(branch=branch, step=task_id, status=status_of(status)))

    async def delete_task(self, task_id: str, run_id: str | None = None) -> None:
        """Remove a task with its attempts and its external run from the views. Its history stays in the log.

        Raises:
            TaskNotFound
        """
        task_id = check_name(task_id, "task id")
        where, branch = await self._places.existing(task_id, run_id)
        await self._write_task(where, RemoveStep(branch=branch, step=task_id))

    async def register_external_run(self, handle: object, run_id: str) -> None:
        """Record a task's external run, or what is new in it.

        Raises:
            TaskNotFound
        """
        event = recording.external_run_registered(handle)
        place = await self._places.existing(event.task_id, check_name(run_id, "run id"))
        await self._log_external_run(event, place)

    async def update_external_run(self, handle: object, run_id: str | None = None) -> None:
        """Record what is new in a task's external run; its operator type does not change.

        Raises:
            ExternalRunNotFound
        """
        event = recording.external_run_updated(handle)
        place = await self._places.find(event.task_id, run_id)
        if place is None:
            raise ExternalRunNotFound(run_id, event.task_id)
        await self._log_external_run(event, place)

    async def get_external_run(self, task_id: str, run_id: str | None = None) -> ExternalRunHandle | None:
        place = await self._places.find(task_id, run_id)
        found = None if place is None else await self._views.tasks.external_run(*place, task_id)
        return None if found is None else make(self._factories, documents.external_run_handle(found))

    async def get_active_external_runs(self, run_id: str) -> list[ExternalRunHandle]:
        """Return the external runs that have not ended."""
        found = await self._views.tasks.external_runs(check_name(run_id, "run id"))
        active = [each for _, each in found if each.status not in TERMINAL_STATUSES]
        return [make(self._factories, documents.external_run_handle(each)) for each in active]

    async def cancel_external_runs(self, task_id: str, run_id: str | None = None) -> None:
        """Cancel a task's external run, if it has one that has not ended.

        Raises:
            TaskNotFound
        """
        task_id = check_name(task_id, "task id")
        where, branch = await self._places.existing(task_id, run_id)
        await self._engine.write(where, CancelExternalRun(branch=branch, task_id=task_id))

    async def create_attempt(
        self,
        run_id: str,
        task_id: str,
        operator_type: str | None = None,
        operator_key: str | None = None,
        status: str = CREATED,
        operator_data: Mapping[str, Any] | None = None,
        relative_path: PurePath | str | None = None,
    ) -> str:
        """Open the next attempt at a task, make it the task's current one, and return its id.

        Raises:
            RunNotFound, TaskNotFound
        """
        task_id = check_name(task_id, "task id")
        where, branch = await self._places.existing(task_id, check_name(run_id, "run id"))
        attempt_id = new_event_id().hex()
        fields = AttemptChanges(
            operator_type=optional_text(operator_type, "operator_type"),
            operator_key=optional_text(operator_key, "operator_key"),
            operator_data=optional_document(operator_data, "operator_data"),
            relative_path=optional_text(relative_path, "relative_path"),
        )
        command = CreateAttempt(
            branch=branch, task_id=task_id, attempt_id=attempt_id, status=status_of(status), fields=fields
        )
        await self._engine.write(where, command)
        return attempt_id

    async def list_attempts(self, task_id: str, run_id: str | None = None) -> list[TaskAttempt]:
        """Return a task's attempts, first to last. Those of an inherited task carry the source's run id."""
        found = await self._places.step(task_id, run_id)
        return [] if found is None else [self._attempt(each) for each in attempts_of(*found)]

    async def get_attempt_count(self, run_id: str, task_id: str) -> int:
        """Return how many attempts a task of a run has had."""
        return len(await self.list_attempts(task_id, check_name(run_id, "run id")))

    async def get_attempt(self, attempt_id: str) -> TaskAttempt | None:
        found = await self._views.tasks.attempt(check_name(attempt_id, "attempt id"))
        return None if found is None else self._attempt(found)

    async def get_current_attempt(self, task_id: str, run_id: str | None = None) -> TaskAttempt | None:
        found = await self._places.step(task_id, run_id)
        if found is None:
            return None
        current = (each for each in attempts_of(*found) if each.log.attempt_id == found[1].current_attempt_id)
        return next((self._attempt(each) for each in current), None)

    async def get_active_attempts(self, run_id: str) -> list[TaskAttempt]:
        """Return the attempts that have not ended, in the order of creation."""
        found = await self._views.tasks.unfinished(check_name(run_id, "run id"))
        return await listed(map(self._attempt, found))

    async def get_attempt_task_ids(self, run_id: str) -> set[str]:
        """Return the ids of the tasks that have had attempts."""
        return await self._views.tasks.attempted(check_name(run_id, "run id"))

    async def count_active_attempts_by_operator(self, run_id: str) -> dict[str, int]:
        """Return the number of attempts that have not ended, by operator key; `""` for those without one."""
        found = await self._views.tasks.unfinished(check_name(run_id, "run id"))
        return dict(Counter(each.log.operator_key or "" for each in found))

    async def find_orphaned_attempts(self, run_id: str, timeout_seconds: float = ORPHANED_SECONDS) -> list[TaskAttempt]:
        """Return the attempts that were created at least that long ago and never submitted (no external id).

        Raises:
            InvalidValue: the timeout is not a number of seconds, or the clock returns anything but an aware time.
        """
        now, age = self._clock(), _seconds(timeout_seconds)
        to_microseconds(now, "clock")
        found = await self._views.tasks.unfinished(check_name(run_id, "run id"))
        return await listed(self._attempt(each) for each in found if is_orphaned(each.log, now, age))

    async def update_attempt(
        self,
        attempt_id: str,
        *,
        status: str | None = None,
        operator_type: str | None = None,
        operator_key: str | None = None,
        external_id: str | None = None,
        operator_data: Mapping[str, Any] | None = None,
        relative_path: PurePath | str | None = None,
        status_reason: str | None = None,
    ) -> None:
        """Change the given fields of an attempt. Changes of its status stamp its times of submission and end.

        Raises:
            AttemptNotFound
        """
        texts: dict[str, Any] = {
            "operator_type": operator_type,
            "operator_key": operator_key,
            "external_id": external_id,
            "relative_path": relative_path,
            "status_reason": status_reason,
        }
        given: dict[str, Any] = {name: optional_text(text, name) for name, text in texts.items() if text is not None}
        if status is not None:
            given["status"] = status_of(status)
        if operator_data is not None:
            given["operator_data"] = check_document(operator_data, "operator_data")
        found = await self._places.attempt(attempt_id)
        command = ChangeAttempt(branch=found.branch, attempt_id=found.log.attempt_id, changes=AttemptChanges(**given))
        await self._engine.write(found.run_id, command)

    async def mark_attempts_failed_init(self, attempt_ids: Iterable[str], reason: str = "Orphan cleanup") -> int:
        """Mark attempts that never began as `FAILED_INIT`, and return how many were marked.

        Attempts that were submitted or have ended meanwhile are left alone. Attempts of several runs are marked run by
        run.

        Raises:
            AttemptNotFound: no attempt is marked.
        """
        ids = [check_name(attempt_id, "attempt id") for attempt_id in check_several(attempt_ids, "attempt_ids")]
        changes = AttemptChanges(status=FAILED_INIT, status_reason=check_text(reason, "reason"))
        by_run: dict[str, list[Command]] = {}
        for attempt_id in dict.fromkeys(ids):
            found = await self._places.attempt(attempt_id)
            command = ChangeAttempt(branch=found.branch, attempt_id=attempt_id, changes=changes, when="orphaned")
            by_run.setdefault(found.run_id, []).append(command)
        return sum([_updates(await self._engine.write(run_id, *commands)) for run_id, commands in by_run.items()])

    async def _info(self, run_id: str) -> RunInfo | None:
        try:
            return await self._views.run_info(check_name(run_id, "run id"))
        except RunNotFound:
            return None

    def _attempt(self, placed: PlacedAttempt) -> TaskAttempt:
        return make(self._factories, documents.task_attempt(placed))

    async def _write_task(self, run_id: str, command: SetStepStatus | RemoveStep) -> None:
        try:
            await self._engine.write(run_id, command)
        except StepNotFound as error:  # deleted since it was found
            raise TaskNotFound(run_id, command.step) from error

    async def _log_external_run(self, event: ExternalRunRegistered | ExternalRunUpdated, place: Place) -> None:
        run_id, branch = place
        await self._engine.write(run_id, LogExternalRun(branch=branch, event=structs.replace(event, branch=branch)))


def _updates(recorded: Recorded) -> int:
    return sum(isinstance(each.event, AttemptUpdated) for each in recorded.events)


def _seconds(timeout_seconds: float) -> float:
    try:
        return timedelta(seconds=timeout_seconds).total_seconds()
    except (TypeError, OverflowError, ValueError) as error:
        raise InvalidValue("timeout_seconds", timeout_seconds, f"is not a number of seconds: {error}") from error
