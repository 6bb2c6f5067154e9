"""Documents as commands: what a store hands to the engine. Pure.

The engine decides each into the events that say what is new. What has no field of its own is kept in `details`.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, structs, to_builtins

from engine.commands import (
    Command,
    Configure,
    CopyParameters,
    DescribeBranch,
    DescribeRun,
    Fork,
    LogStep,
    MergeParameters,
    OpenRun,
    SetStatus,
    Unless,
)
from engine.events import RunCreated
from engine.model import CREATED, ERASED, TERMINAL_STATUSES, AttemptDocument, Parameter, StepDocument
from engine.names import ROOT, check_branch, check_name
from engine.stores.documents import BranchLog, JobLog, RunLog, StepAttempt, StepLog, as_document, as_mapping
from engine.values import check_document, check_optional, check_parameters, check_text

ATTEMPT_DETAILS: Final = ("attempt_number", "start_time", "end_time", "retry_indicator")
"""What hosts say of an attempt in words of their own, kept as they said it where it does not follow from the rest."""


class Recorder(Struct, frozen=True):
    """How documents become commands.

    Args:
        open_missing: also open the run and the branch that a document is for, when they are not open.
        unless: leave out a parameter that the branch sees already (`"resolved"`), or only one that it set (`"own"`).
    """

    open_missing: bool = True
    unless: Unless = "resolved"

    def opening(self, branch: str) -> Iterator[Command]:
        """Yield what opens the run and a branch, if writing to them is to open them."""
        if self.open_missing:
            yield OpenRun(exist_ok=True)
            if branch != ROOT:
                yield Fork(branch=branch, parent=None, exist_ok=True)

    def parameters(self, branch: str, values: Mapping[str, Parameter]) -> Command:
        unless = "resolved" if branch == ROOT else self.unless
        said = {name: value for name, value in values.items() if value != ERASED}  # given back as it was read
        return MergeParameters(branch=branch, values=check_parameters(said), unless=unless)

    def copied(self, source: str, target: str) -> Command:
        return CopyParameters(branch=target, source=source, unless="resolved" if target == ROOT else self.unless)

    def run(self, document: RunLog) -> Iterator[Command]:
        """Yield what records a run log, with all the branches in it. It opens its run."""
        yield OpenRun(event=run_created(document), details=opening_details(document), exist_ok=True)
        yield SetStatus(status=check_name(document.status, "status"))
        yield self.parameters(ROOT, document.parameters)
        job = None if document.job is None else job_document(document.job)
        yield Configure(config=check_document(document.run_config, "run_config"), job=job)
        yield from self._contents(ROOT, document.steps, document.branches)
        # A run's event holds the tag and the hash that it was opened with; what they become later is in the details.
        texts = {"tag": document.tag, "dag_hash": document.dag_hash}
        if details := {name: check_text(text, name) for name, text in texts.items() if text}:
            yield DescribeRun(details=details)

    def branch(self, branch: str, document: BranchLog, parent: str | None) -> Iterator[Command]:
        """Yield what records a branch's log, with all the branches in it. It opens its branch."""
        yield from self._opened(branch, document, parent)
        yield from self._contents(branch, document.steps, document.branches)

    def step(self, branch: str, document: StepLog) -> Iterator[Command]:
        """Yield what records a step's log, with all the branches in it."""
        yield from self._contents(branch, {document.internal_name: document}, {})

    def _opened(self, branch: str, document: BranchLog, parent: str | None) -> Iterator[Command]:
        status = check_name(document.status, "status")
        yield Fork(branch=check_branch(branch), parent=parent, status=status, exist_ok=True)
        yield SetStatus(branch=branch, status=status)
        yield self.parameters(branch, document.parameters)
        if document.internal_name != branch:
            details = {"internal_name": check_name(document.internal_name, "branch name")}
            yield DescribeBranch(branch=branch, details=details, merge=True)

    def _contents(
        self, branch: str, steps: Mapping[str, StepLog], branches: Mapping[str, BranchLog]
    ) -> Iterator[Command]:
        # Without recursion: branches may be nested deeper than calls may.
        waiting = [(branch, steps, branches)]
        while waiting:
            branch, steps, branches = waiting.pop()
            logs: dict[str, BranchLog] = {}
            for each in steps.values():
                step = as_document(each, StepLog)
                yield LogStep(branch=branch, document=step_document(step))
                logs.update(step.branches)
            below = []
            for name, log in {**logs, **branches}.items():
                document = as_document(log, BranchLog)
                yield from self._opened(name, document, branch)
                below.append((name, document.steps, document.branches))
            waiting += reversed(below)


def run_created(document: RunLog, *, original_run_id: str | None = "", use_cached: bool = False) -> RunCreated:
    """Return the event that opens a run as its log says."""
    return RunCreated(
        branch=ROOT,
        status=check_name(document.status, "status"),
        tag=check_text(document.tag or "", "tag"),
        dag_hash=check_optional(check_text, document.dag_hash, "dag_hash"),
        original_run_id=check_text(original_run_id or "", "original_run_id") or None,
        use_cached=use_cached,
    )


def opening_details(document: RunLog) -> dict[str, Any]:
    """Return what a new run's log says and the event that opens the run cannot: that there is no tag."""
    return {"tag": None} if document.tag is None else {}


def step_document(document: StepLog) -> StepDocument:
    """Return a step's log as the engine takes it."""
    catalog = [as_mapping(item, "data_catalog") for item in document.data_catalog]
    return StepDocument(
        step=check_name(document.internal_name, "step name"),
        name=check_text(document.name or document.internal_name, "name"),
        status=check_name(document.status, "status"),
        step_type=check_text(document.step_type, "step_type"),
        message=check_text(document.message, "message"),
        mock=document.mock,
        details={"data_catalog": catalog} if catalog else {},
        attempts=[
            attempt_document(as_document(attempt, StepAttempt), place)
            for place, attempt in enumerate(document.attempts, start=1)
        ],
    )


def attempt_document(document: StepAttempt, place: int) -> AttemptDocument:
    """Return an attempt as the engine takes it, by its place among the step's: the first is 1."""
    began_at, ended_at = _as_time(document.start_time), _as_time(document.end_time)
    # Without a text of its host's an attempt that has begun, or ended, would be shown the log's time.
    follows: dict[str, object] = {"attempt_number": place, "start_time": "", "end_time": "", "retry_indicator": ""}
    if document.status != CREATED:
        follows["start_time"] = time_text(began_at) or None
    if ended_at is not None or document.status in TERMINAL_STATUSES:
        follows["end_time"] = time_text(ended_at) or None
    said = {name: getattr(document, name) for name in ATTEMPT_DETAILS}
    details = {name: value for name, value in said.items() if value != follows[name]}
    if document.code_identities:
        details["code_identities"] = [as_mapping(each, "code_identities") for each in document.code_identities]
    return AttemptDocument(
        status=check_name(document.status, "status"),
        message=check_text(document.message, "message"),
        inputs=_given_back(document.input_parameters),
        outputs=_given_back(document.output_parameters),
        metrics=_given_back(document.user_defined_metrics),
        details=check_document(details, "attempt"),
        began_at=began_at,
        ended_at=ended_at,
    )


def _as_time(text: str) -> datetime | None:
    """Return the time that a host's text is: of this machine's time zone, where it does not say of which."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def time_text(moment: datetime | None) -> str:
    """Return a time as a document has it, where its host has said nothing else."""
    return "" if moment is None else str(moment)


def _given_back(values: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return parameters of an attempt that its host has read, changed and hands in: some may have been erased."""
    return {
        name: ERASED if value == ERASED else check_parameters({name: value})[name] for name, value in values.items()
    }


def job_document(document: JobLog) -> dict[str, Any]:
    """Return a job's log as the mapping that is recorded."""
    plain = structs.replace(
        document,
        code_identities=[as_mapping(each, "code_identities") for each in document.code_identities],
        data_catalog=[as_mapping(each, "data_catalog") for each in document.data_catalog],
        attempts=[_plain_attempt(as_document(attempt, StepAttempt)) for attempt in document.attempts],
    )
    return check_document(to_builtins(plain), "job")


def _plain_attempt(attempt: StepAttempt) -> StepAttempt:
    for values in (attempt.input_parameters, attempt.output_parameters, attempt.user_defined_metrics):
        check_parameters(values)
    identities = [as_mapping(each, "code_identities") for each in attempt.code_identities]
    return structs.replace(attempt, code_identities=identities)
