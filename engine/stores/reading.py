"""The engine's compiled logs as documents. Pure."""

from collections.abc import Mapping
from types import NoneType
from typing import Any

from engine import model
from engine.errors import InvalidValue
from engine.names import dotted_prefixes
from engine.stores.documents import BranchLog, JobLog, RunLog, StepAttempt, StepLog, as_document
from engine.stores.recording import time_text


def run_document(log: model.RunLog) -> RunLog:
    """Return a run's log. All its branches are in `branches`; those opened by a step are also in that step."""
    branches = _branch_documents(log.branches)
    return RunLog(
        run_id=log.run_id,
        dag_hash=_detail(log.details, "dag_hash", log.dag_hash, str),
        tag=_detail(log.details, "tag", log.tag, str, NoneType),
        status=log.status,
        steps=_steps(log.steps, branches),
        job=_job(log.job),
        parameters=log.parameters,
        run_config=log.config,
        branches=branches,
    )


def _job(document: object) -> JobLog | None:
    """Return a job's log; None if there is none, or one in another caller's format."""
    try:
        return None if document is None else as_document(document, JobLog)
    except InvalidValue:
        return None


def branch_document(log: model.BranchLog) -> BranchLog:
    """Return a branch's log, including all branches below it."""
    return _branch_documents({log.branch: log})[log.branch]


def _branch_documents(logs: Mapping[str, model.BranchLog]) -> dict[str, BranchLog]:
    """Return the logs of branches, built bottom-up without recursion: nesting may exceed the recursion limit."""
    made: dict[str, BranchLog] = {}
    for log in reversed([each for top in logs.values() for each in model.branches_of(top)]):
        branches = {name: made[name] for name in log.branches}
        made[log.branch] = BranchLog(
            internal_name=_detail(log.details, "internal_name", log.branch, str),
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
        data_catalog=_detail(step.details, "data_catalog", [], list),
    )


def _attempt(attempt: model.AttemptLog) -> StepAttempt:
    # Details that no document gave, or that can be derived, come from the engine's own number and times.
    derived = {
        "attempt_number": attempt.attempt_index,
        "start_time": time_text(attempt.submitted_at),
        "end_time": time_text(attempt.ended_at),
        "retry_indicator": "",
    }
    return StepAttempt(
        status=attempt.status,
        message=attempt.message,
        input_parameters=attempt.inputs,
        output_parameters=attempt.outputs,
        user_defined_metrics=attempt.metrics,
        code_identities=_detail(attempt.details, "code_identities", [], list),
        **{name: _detail(attempt.details, name, value, type(value)) for name, value in derived.items()},
    )


def _detail(details: Mapping[str, Any], name: str, default: object, *types: type) -> Any:
    """Return what a document said; details of that name and of another type are some other caller's."""
    value = details.get(name, default)
    return value if type(value) in types else default


def _steps(steps: dict[str, model.StepLog], branches: dict[str, BranchLog]) -> dict[str, StepLog]:
    opened: dict[str, dict[str, BranchLog]] = {}
    for name, branch in branches.items():
        # The longest prefix, because the rest of the name may contain dots: map branches are named after values.
        opener = next((prefix for prefix in dotted_prefixes(name) if prefix in steps), None)
        if opener is not None:
            opened.setdefault(opener, {})[name] = branch
    return {name: step_log(step, opened.get(name)) for name, step in steps.items()}
