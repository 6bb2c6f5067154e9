"""Comparison of the engine's compiled logs with the model's branches."""

from engine.model import AttemptLog, BranchLog, StepLog
from tests.property.model import ModelAttempt, ModelRun, ModelStep
from tests.property.naive_reduction import key


def assert_branch(compiled: BranchLog, run: ModelRun, name: str) -> None:
    """Assert that a compiled log equals the model's branch, nested branches included."""
    branch = run.branches[name]
    assert compiled.stream_version == branch.version
    assert compiled.status == branch.status
    assert key(compiled.parameters) == key(branch.seen)
    assert (compiled.branch, compiled.parent) == (name, branch.parent)
    assert key(compiled.details) == key(branch.details)
    own = {name: log for name, log in compiled.steps.items() if log.inherited_from is None}
    assert list(own) == list(branch.steps)
    assert compiled.steps.keys() - own.keys() == branch.inherited.keys()
    for step, log in compiled.steps.items():
        assert_step(log, branch.seen_steps[step])
    assert list(compiled.branches) == run.children(name)
    for child, below in compiled.branches.items():
        assert_branch(below, run, child)


def assert_step(log: StepLog, step: ModelStep) -> None:
    found = (log.name, log.status, log.status_reason, log.message, key(log.details))
    assert found == (step.name, step.status, step.status_reason, step.message, key(step.details))
    assert [attempt.attempt_index for attempt in log.attempts] == list(range(1, len(step.attempts) + 1))
    assert log.current_attempt_id == (log.attempts[-1].attempt_id if log.attempts else None)
    for attempt, model in zip(log.attempts, step.attempts, strict=True):
        assert_attempt(attempt, model)


def assert_attempt(log: AttemptLog, attempt: ModelAttempt) -> None:
    assert attempt.attempt_id in (None, log.attempt_id)
    fields = ("status", "message", "external_id", "status_reason", "inputs", "outputs", "metrics", "details")
    assert [key(getattr(log, each)) for each in fields] == [key(getattr(attempt, each)) for each in fields]
    finished = attempt.status in ("FAILED", "COMPLETED")
    assert not finished or log.ended_at is not None
