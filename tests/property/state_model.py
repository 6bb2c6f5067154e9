"""A model of a state store: dictionaries that are changed in place, and a count of the events that this should take.

The state machine compares the state store, which keeps only events, with this model.
"""

import json
from collections import Counter
from typing import Any

from msgspec import Struct, field

TERMINAL = {"COMPLETED", "FAILED", "FAILED_INIT", "CANCELLED"}


class Missing(Exception):
    """The task or attempt that a call names does not exist."""


class Ambiguous(Exception):
    """A task id exists in several runs."""


class ModelAttempt(Struct):
    attempt_id: str
    attempt_index: int
    status: str
    operator_key: str | None = None
    operator_data: dict[str, Any] = field(default_factory=dict)
    external_id: str | None = None
    status_reason: str | None = None
    submitted: bool = False
    ended: bool = False

    def stamp(self) -> None:
        self.submitted |= self.status != "CREATED"
        self.ended |= self.status in TERMINAL


class ModelTask(Struct):
    spec: dict[str, Any]
    status: str = "PENDING"
    attempts: list[ModelAttempt] = field(default_factory=list)
    external_run: dict[str, Any] | None = None


class ModelRun(Struct):
    status: str
    metadata: dict[str, Any]
    reason: str | None = None
    tasks: dict[str, ModelTask] = field(default_factory=dict)

    def attempts(self) -> list[ModelAttempt]:
        return [attempt for task in self.tasks.values() for attempt in task.attempts]

    def active(self) -> set[str]:
        return {each.attempt_id for each in self.attempts() if each.status not in TERMINAL}

    def operators(self) -> dict[str, int]:
        return dict(Counter(each.operator_key or "" for each in self.attempts() if each.status not in TERMINAL))

    def orphans(self) -> set[str]:
        return {each.attempt_id for each in self.attempts() if each.status == "CREATED" and each.external_id is None}


class ModelStore:
    """The runs by id; `events` counts the events that the log should hold, one for each change."""

    def __init__(self) -> None:
        self.runs: dict[str, ModelRun] = {}
        self.events = 0

    def task(self, task_id: str, run_id: str | None) -> ModelTask:
        """Raises: Missing, Ambiguous"""
        found = [
            run.tasks[task_id] for name, run in self.runs.items() if run_id in (None, name) and task_id in run.tasks
        ]
        if len(found) > 1:
            raise Ambiguous
        if not found:
            raise Missing
        return found[0]

    def attempt(self, attempt_id: str) -> ModelAttempt:
        """Raises: Missing"""
        for run in self.runs.values():
            for attempt in run.attempts():
                if attempt.attempt_id == attempt_id:
                    return attempt
        raise Missing

    def create_run(self, run_id: str, status: str, metadata: dict[str, Any]) -> None:
        self.runs[run_id] = ModelRun(status, metadata)
        self.events += 1

    def set_run_status(self, run_id: str, status: str, reason: str | None) -> None:
        run = self.runs[run_id]
        reason = run.reason if reason is None else reason
        self.events += (run.status, run.reason) != (status, reason)
        run.status, run.reason = status, reason

    def add_workflow(self, run_id: str, specs: dict[str, dict[str, Any]]) -> None:
        tasks = self.runs[run_id].tasks
        for task_id, spec in specs.items():
            if task_id not in tasks:
                tasks[task_id] = ModelTask(spec)
                self.events += 1
            elif not same(tasks[task_id].spec, spec):
                tasks[task_id].spec = spec
                self.events += 1

    def set_task_status(self, task: ModelTask, status: str) -> None:
        self.events += task.status != status
        task.status = status

    def delete(self, task: ModelTask) -> None:
        for run in self.runs.values():
            run.tasks = {task_id: each for task_id, each in run.tasks.items() if each is not task}
        self.events += 1

    def register(self, task: ModelTask, external_run: dict[str, Any]) -> None:
        self.events += not same(task.external_run, external_run)
        task.external_run = external_run

    def update_external(self, task: ModelTask, external_run: dict[str, Any]) -> None:
        """Raises: Missing"""
        if task.external_run is None:
            raise Missing
        self.register(task, external_run | {"operator_type": task.external_run["operator_type"]})

    def cancel(self, task: ModelTask) -> None:
        if task.external_run is not None and task.external_run["status"] not in TERMINAL:
            self.register(task, task.external_run | {"status": "CANCELLED"})

    def create_attempt(self, task: ModelTask, attempt_id: str, **fields: Any) -> None:
        attempt = ModelAttempt(attempt_id, len(task.attempts) + 1, **fields)
        attempt.stamp()
        task.attempts.append(attempt)
        self.events += 1

    def update_attempt(self, attempt: ModelAttempt, changes: dict[str, Any]) -> None:
        given = {name: value for name, value in changes.items() if value is not None}
        self.events += not same({name: getattr(attempt, name) for name in given}, given)
        for name, value in given.items():
            setattr(attempt, name, value)
        attempt.stamp()

    def mark_failed_init(self, attempts: list[ModelAttempt], reason: str) -> int:
        orphans = [each for each in attempts if each.status == "CREATED" and each.external_id is None]
        for attempt in orphans:
            self.update_attempt(attempt, {"status": "FAILED_INIT", "status_reason": reason})
        return len(orphans)


def same(left: object, right: object) -> bool:
    """Return whether two values are equal as JSON, where every NaN equals every other."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
