"""Conversion of documents to commands for the engine. Pure.

The engine decides each command into the events that say what is new. Fields without a counterpart in the engine are
kept in `details`.
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
from engine.encoding.values import check_document, check_optional, check_parameters, check_text
from engine.events import RunCreated
from engine.model import CREATED, ERASED, TERMINAL_STATUSES, AttemptDocument, Parameter, StepDocument
from engine.names import ROOT, check_branch, check_name
from engine.stores.documents import BranchLog, JobLog, RunLog, StepAttempt, StepLog, as_document, as_mapping

_DETAILS: Final = ("data_catalog", "code_identities", "attempt_number", "start_time", "end_time", "retry_indicator")
"""The details of a step and its attempts that come from documents."""


class Recorder(Struct, frozen=True):
    """How documents become commands.

    Args:
        open_missing: also open the run and the branch of a document if they are not open.
        unless: leave out a parameter that the branch already sees (`"resolved"`), or only one that it set (`"own"`).
    """

    open_missing: bool = True
    unless: Unless = "resolved"

    def opening(self, branch: str) -> Iterator[Command]:
        """Yield the commands that open the run and a branch, if `open_missing` is set."""
        if self.open_missing:
            yield OpenRun(exist_ok=True)
            if branch != ROOT:
                yield Fork(branch=branch, parent=None, exist_ok=True)

    def parameters(self, branch: str, values: Mapping[str, Parameter]) -> Command:
        unless = "resolved" if branch == ROOT else self.unless
        said = {name: value for name, value in values.items() if value != ERASED}  # read and handed back
        return MergeParameters(branch=branch, values=check_parameters(said), unless=unless)

    def copied(self, source: str, target: str) -> Command:
        return CopyParameters(branch=target, source=source, unless="resolved" if target == ROOT else self.unless)

    def run(self, document: RunLog) -> Iterator[Command]:
        """Yield the commands that record a run log with all branches in it, opening the run."""
        yield OpenRun(event=run_created(document), details=opening_details(document), exist_ok=True)
        yield SetStatus(status=check_name(document.status, "status"))
        yield self.parameters(ROOT, document.parameters)
        job = None if document.job is None else job_document(document.job)
        yield Configure(config=check_document(document.run_config, "run_config"), job=job)
        yield from self._contents(ROOT, document.steps, document.branches)
        # RunCreated holds the tag and the hash that the run was opened with; later values are kept in the details.
        texts = {"tag": document.tag, "dag_hash": document.dag_hash}
        if details := {name: check_text(text, name) for name, text in texts.items() if text}:
            yield DescribeRun(details=details)

    def branch(self, branch: str, document: BranchLog, parent: str | None) -> Iterator[Command]:
        """Yield the commands that record a branch's log with all branches in it, opening the branch."""
        yield from self._opened(branch, document, parent)
        yield from self._contents(branch, document.steps, document.branches)

    def step(self, branch: str, document: StepLog) -> Iterator[Command]:
        """Yield the commands that record a step's log with all branches in it."""
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
        # Without recursion, because nesting may exceed the recursion limit.
        waiting = [(branch, steps, branches)]
        while waiting:
            branch, steps, branches = waiting.pop()
            logs: dict[str, BranchLog] = {}
            for each in steps.values():
                step = as_document(each, StepLog)
                yield LogStep(branch=branch, document=step_document(step), own_details=_DETAILS)
                logs.update(step.branches)
            below = []
            for name, log in {**logs, **branches}.items():
                document = as_document(log, BranchLog)
                yield from self._opened(name, document, branch)
                below.append((name, document.steps, document.branches))
            waiting += reversed(below)


def run_created(document: RunLog, *, original_run_id: str | None = "", use_cached: bool = False) -> RunCreated:
    """Return the event that opens a run according to its log."""
    return RunCreated(
        branch=ROOT,
        status=check_name(document.status, "status"),
        tag=check_text(document.tag or "", "tag"),
        dag_hash=check_optional(check_text, document.dag_hash, "dag_hash"),
        original_run_id=check_text(original_run_id or "", "original_run_id") or None,
        use_cached=use_cached,
    )


def opening_details(document: RunLog) -> dict[str, Any]:
    """Return the details of a new run that its RunCreated event cannot express: that the tag is None."""
    return {"tag": None} if document.tag is None else {}


def step_document(document: StepLog) -> StepDocument:
    """Convert a step's log to the engine's form."""
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
    """Convert an attempt to the engine's form, by its place among the step's attempts, counted from 1."""
    began_at, ended_at = _as_time(document.start_time), _as_time(document.end_time)
    # What reading would derive; a field in the host's own format that differs is kept verbatim. None never equals the
    # host's text: without a time of the host's, the engine stamps its own, so even an empty text has to be kept.
    derived: dict[str, object] = {"attempt_number": place, "start_time": "", "end_time": "", "retry_indicator": ""}
    if document.status != CREATED:
        derived["start_time"] = time_text(began_at) or None
    if ended_at is not None or document.status in TERMINAL_STATUSES:
        derived["end_time"] = time_text(ended_at) or None
    details = {name: value for name in derived if (value := getattr(document, name)) != derived[name]}
    if document.code_identities:
        details["code_identities"] = [as_mapping(each, "code_identities") for each in document.code_identities]
    return AttemptDocument(
        status=check_name(document.status, "status"),
        message=check_text(document.message, "message"),
        inputs=_checked_unless_erased(document.input_parameters),
        outputs=_checked_unless_erased(document.output_parameters),
        metrics=_checked_unless_erased(document.user_defined_metrics),
        details=check_document(details, "attempt"),
        began_at=began_at,
        ended_at=ended_at,
    )


def _as_time(text: str) -> datetime | None:
    """Parse a host's time text, in this machine's time zone if it has none; None if it is not a time."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def time_text(moment: datetime | None) -> str:
    """Format the engine's time for a document."""
    return "" if moment is None else str(moment)


def _checked_unless_erased(values: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Check an attempt's parameters; a host that reads and writes back a document may include erased ones."""
    return {
        name: ERASED if value == ERASED else check_parameters({name: value})[name] for name, value in values.items()
    }


def job_document(document: JobLog) -> dict[str, Any]:
    """Convert a job's log to the mapping that is recorded."""
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
