"""Finding a task or an attempt by its id alone."""

import contextlib
from typing import TypeAlias

from engine.errors import AmbiguousTask, AttemptNotFound, RunNotFound, StepNotFound, TaskNotFound
from engine.model import StepLog
from engine.names import ROOT, check_name
from engine.views import PlacedAttempt, Views

Place: TypeAlias = tuple[str, str]
"""A run id and a branch name."""


def attempts_of(place: Place, step: StepLog) -> list[PlacedAttempt]:
    """Return the attempts at a step with their places: for an inherited step, that of its origin."""
    origin = step.inherited_from
    run_id, branch = place if origin is None else (origin.run_id, origin.branch)
    return [PlacedAttempt(run_id, branch, log) for log in step.attempts]


class TaskPlaces:
    """Finds tasks in one run, or in all runs if `run_id` is None."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def find(self, task_id: str, run_id: str | None) -> Place | None:
        """Return the place of the task with that id, None if there is none. Within one run, the root branch wins.

        Raises:
            AmbiguousTask: it is in several runs, or in several branches of one run but not in its root.
        """
        check_name(task_id, "task id")
        if run_id is not None:
            check_name(run_id, "run id")
        places = await self._views.tasks.places(task_id, run_id)
        if len({run for run, _ in places}) == 1:
            places = [place for place in places if place[1] == ROOT] or places
        if len(places) > 1:
            raise AmbiguousTask(task_id, places)
        return places[0] if places else None

    async def existing(self, task_id: str, run_id: str | None) -> Place:
        """Return the place of the task with that id, as `find` does.

        Raises:
            AmbiguousTask, RunNotFound, TaskNotFound
        """
        place = await self.find(task_id, run_id)
        if place is None:
            if run_id is not None:
                await self._views.run_info(run_id)  # raises RunNotFound if the run is missing
            raise TaskNotFound(run_id, task_id)
        return place

    async def step(self, task_id: str, run_id: str | None) -> tuple[Place, StepLog] | None:
        """Return a task with its attempts, and its place; None if there is none.

        Includes the tasks that the root branch of a forked run inherits.
        """
        check_name(task_id, "task id")
        if run_id is not None:
            with contextlib.suppress(RunNotFound, StepNotFound):
                return (run_id, ROOT), await self._views.step(check_name(run_id, "run id"), ROOT, task_id)
        place = await self.find(task_id, run_id)
        if place is None:
            return None
        try:
            return place, await self._views.step(*place, task_id)
        except StepNotFound:  # deleted since it was found
            return None

    async def attempt(self, attempt_id: str) -> PlacedAttempt:
        """Return an attempt with its place.

        Raises:
            AttemptNotFound
        """
        found = await self._views.tasks.attempt(check_name(attempt_id, "attempt id"))
        if found is None:
            raise AttemptNotFound(None, attempt_id)
        return found
