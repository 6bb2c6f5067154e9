"""Where a task or an attempt is, by its id alone."""

import contextlib
from typing import TypeAlias

from engine.errors import AmbiguousTask, AttemptNotFound, RunNotFound, StepNotFound, TaskNotFound
from engine.model import StepLog
from engine.names import ROOT, check_name
from engine.views import PlacedAttempt, Views

Place: TypeAlias = tuple[str, str]
"""A run and a branch of it."""


def attempts_of(place: Place, step: StepLog) -> list[PlacedAttempt]:
    """Return the attempts at a step with where they were made: those at an inherited one where that is from."""
    origin = step.inherited_from
    run_id, branch = place if origin is None else (origin.run_id, origin.branch)
    return [PlacedAttempt(run_id, branch, log) for log in step.attempts]


class TaskPlaces:
    """Looks through every run, or through the one that is given."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def find(self, task_id: str, run_id: str | None) -> Place | None:
        """Return where the one task of that id is, None where none is. Of one run's, the root branch's is meant.

        Raises:
            AmbiguousTask: it is in several runs, or in several branches of one and not in its root.
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
        """Return where the one task of that id is.

        Raises:
            AmbiguousTask, RunNotFound, TaskNotFound
        """
        place = await self.find(task_id, run_id)
        if place is None:
            if run_id is not None:
                await self._views.run_info(run_id)  # which may be what is missing
            raise TaskNotFound(run_id, task_id)
        return place

    async def step(self, task_id: str, run_id: str | None) -> tuple[Place, StepLog] | None:
        """Return a task with its attempts and where it is, None where it is not.

        The root branch of a forked run also has those that had succeeded in its source.
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
        """Return an attempt and where it is.

        Raises:
            AttemptNotFound
        """
        found = await self._views.tasks.attempt(check_name(attempt_id, "attempt id"))
        if found is None:
            raise AttemptNotFound(None, attempt_id)
        return found
