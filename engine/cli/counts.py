"""Counts of what a compiled run log holds."""

from msgspec import Struct

from engine.model import FAILED_STATUSES, AttemptLog, BranchLog, RunLog, branches_of


class Counts(Struct, frozen=True, kw_only=True):
    """The counts of a run with all its branches, including the root."""

    events: int
    branches: int
    steps: int
    attempts: int
    failed_attempts: int


def attempts_of(log: BranchLog) -> list[AttemptLog]:
    """Return the attempts at a log's own steps."""
    return [attempt for step in log.steps.values() for attempt in step.attempts]


def count(log: RunLog) -> Counts:
    """Count what a run holds. Streams have no gaps, so their last versions add up to the number of events."""
    logs = list(branches_of(log))
    attempts = [attempt for each in logs for attempt in attempts_of(each)]
    return Counts(
        events=sum(each.stream_version for each in logs),
        branches=len(logs),
        steps=sum(len(each.steps) for each in logs),
        attempts=len(attempts),
        failed_attempts=sum(attempt.status in FAILED_STATUSES for attempt in attempts),
    )
