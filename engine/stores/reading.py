"""The engine's compiled logs as documents. Pure."""

from collections.abc import Mapping

from engine import model
from engine.names import dotted_prefixes
from engine.stores.documents import BranchLog, JobLog, RunLog, StepAttempt, StepLog, as_document
from engine.stores.recording import ATTEMPT_DETAILS, time_text


def run_document(log: model.RunLog) -> RunLog:
    """Return a run's log. All its branches are in `branches`; those opened by a step are also in that step."""
    branches = _branch_documents(log.branches)
    return RunLog(
        run_id=log.run_id,
        dag_hash=log.details.get("dag_hash", log.dag_hash),
        tag=log.details.get("tag", log.tag),
        status=log.status,
        steps=_steps(log.steps, branches),
        job=None if log.job is None else as_document(log.job, JobLog),
        parameters=log.parameters,
        run_config=log.config,
        branches=branches,
    )


def branch_document(log: model.BranchLog) -> BranchLog:
    """Return a branch's log, including all branches below it."""
    return _branch_documents({log.branch: log})[log.branch]


def _branch_documents(logs: Mapping[str, model.BranchLog]) -> dict[str, BranchLog]:
    """Return the logs of branches, built bottom-up without recursion: nesting may exceed the recursion limit."""
    made: dict[str, BranchLog] = {}
    for log in reversed([each for top in logs.values() for each in model.branches_of(top)]):
        branches = {name: made[name] for name in log.branches}
        made[log.branch] = BranchLog(
            internal_name=log.details.get("internal_name", log.branch),
            status=log.status,
            steps=_steps(log.steps, branches),
            parameters=log.parameters,
            branches=branches,
        )
    return {name: made[name] for name in logs}


def step_log(step: model.StepLog, branches: dict[str, BranchLog] | None = None) -> StepLog:
    """Return a step's log, including the branches that it opened."""
    return StepLog(
        name=step.name,
        internal_name=step.step,
        status=step.status,
        step_type=step.step_type,
        message=step.message,
        mock=step.mock,
        attempts=[_attempt(attempt) for attempt in step.attempts],
        branches=branches or {},
        data_catalog=step.details.get("data_catalog", []),
    )


def _attempt(attempt: model.AttemptLog) -> StepAttempt:
    # Details that no document gave, or that can be derived, come from the engine's own number and times.
    details = {
        "attempt_number": attempt.attempt_index,
        "start_time": time_text(attempt.submitted_at),
        "end_time": time_text(attempt.ended_at),
        "retry_indicator": "",
        **{name: attempt.details[name] for name in ATTEMPT_DETAILS if name in attempt.details},
    }
    return StepAttempt(
        status=attempt.status,
        message=attempt.message,
        input_parameters=attempt.inputs,
        output_parameters=attempt.outputs,
        user_defined_metrics=attempt.metrics,
        code_identities=attempt.details.get("code_identities", []),
        **details,
    )


def _steps(steps: dict[str, model.StepLog], branches: dict[str, BranchLog]) -> dict[str, StepLog]:
    opened: dict[str, dict[str, BranchLog]] = {}
    for name, branch in branches.items():
        # The longest prefix, because the rest of the name may contain dots: map branches are named after values.
        opener = next((prefix for prefix in dotted_prefixes(name) if prefix in steps), None)
        if opener is not None:
            opened.setdefault(opener, {})[name] = branch
    return {name: step_log(step, opened.get(name)) for name, step in steps.items()}
