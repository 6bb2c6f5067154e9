"""The handle of one attempt, and the fields that callers may give it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict

from msgspec import structs
from typing_extensions import Unpack, override

from engine.codec import plain_time
from engine.commands import Request, UpdateAttempt
from engine.errors import InvalidValue
from engine.expected_version import ANY, ExpectedVersion, check_expected_version
from engine.model import COMPLETED, NOT_BEGUN_WITH, TERMINAL_STATUSES, AttemptChanges, AttemptDocument, AttemptLog
from engine.names import check_key, check_name
from engine.ports import Recorded
from engine.values import check_document, check_parameters, check_text
from engine.views import Views
from engine.writer import Writer


class AttemptFields(TypedDict, total=False):
    """What callers may give an attempt when it begins; `None` where nothing is known."""

    operator_key: str | None
    operator_type: str | None
    external_id: str | None
    operator_data: Mapping[str, Any] | None
    relative_path: str | None
    message: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    metrics: Mapping[str, Any]
    details: Mapping[str, Any]


class AttemptUpdates(AttemptFields, total=False):
    """What callers may change of an attempt."""

    status: str
    status_reason: str | None
    submitted_at: datetime | None
    ended_at: datetime | None


class StartOptions(AttemptFields, total=False):
    """What else callers may say when they start an attempt; see `Branch.start_attempt`."""

    status: str
    attempt_id: str | None
    expected_version: ExpectedVersion
    idempotency_key: str | None


class Attempt:
    """One try at a step. Make one by `Branch.attempt`, `Branch.start_attempt` or `Run.find_attempt`.

    It has `run_id`, `branch`, `step`, `attempt_id`, and `attempt_index`, which counts the step's attempts from 1.
    `duplicate` says that it was started before, under the same idempotency key: it may have ended since.
    """

    def __init__(
        self,
        writer: Writer,
        views: Views,
        run_id: str,
        branch: str,
        step: str,
        attempt_id: str,
        attempt_index: int,
        *,
        duplicate: bool = False,
    ) -> None:
        self._writer = writer
        self._views = views
        self.run_id = run_id
        self.branch = branch
        self.step = step
        self.attempt_id = attempt_id
        self.attempt_index = attempt_index
        self.duplicate = duplicate
        self._finished = False

    @override
    def __repr__(self) -> str:
        return f"<Attempt {self.attempt_index} of {self.step!a} in {self.run_id!a} {self.branch!a}>"

    async def update(
        self,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
        **changes: Unpack[AttemptUpdates],
    ) -> Recorded:
        """Set fields: `status`, `status_reason`, `operator_key`, `operator_type`, `external_id`, `operator_data`,
        `relative_path`, `message`, `inputs`, `outputs`, `metrics`, `details`, `submitted_at`, `ended_at`.

        What is not given stays; where nothing is given, nothing is recorded. `submitted_at` is stamped when the status
        first leaves `CREATED`, and `ended_at` when it first becomes terminal: never with a time before the attempt was
        created or submitted, also where the clock was set back meanwhile.

        Args:
            expected_version: of the branch's stream, as with every write of a `Branch`; so is the key.

        Raises:
            InvalidValue, AttemptNotFound
        """
        request = self._request(
            attempt_changes(changes), None, expected_version=expected_version, idempotency_key=idempotency_key
        )
        ends = changes.get("status") in TERMINAL_STATUSES
        if "status" in changes and not ends:
            self._finished = False  # it is taken up again: its block ends it once more
        return await self._write(request, ends=ends)

    async def finish(
        self,
        status: str = COMPLETED,
        reason: str | None = None,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
        **fields: Unpack[AttemptFields],
    ) -> Recorded:
        """Set the attempt's last status, and the step's with it while this is the step's current attempt.

        Any word will do; those that say how it went are `COMPLETED`, `SUCCESS`, `SKIPPED`, `FAILED`, `FAIL`,
        `FAILED_INIT` and `CANCELLED`. The status reason is `reason`: what stood there of an earlier status is gone
        where none is given. An attempt that had ended is set to what is said now, and ended when it did.

        Args:
            fields: what else is set with it, such as `outputs` and `metrics`; see `update`.
        """
        status = check_name(status, "status")
        ending = _ending(status, reason, **fields)
        request = self._request(ending, status, expected_version=expected_version, idempotency_key=idempotency_key)
        return await self._write(request, ends=True)

    async def finish_unless_finished(self, status: str, reason: str | None) -> None:
        """`finish`, unless it has ended by then, whoever has ended it: to the end, even when cancelled meanwhile."""
        if not self._finished:
            await self._write(self._request(_ending(status, reason), status, unless_ended=True), ends=True)

    async def log(self) -> AttemptLog:
        """Return the attempt as it stands."""
        _, log = await self._views.attempt(self.run_id, self.attempt_id)
        return log

    async def _write(self, request: Request, *, ends: bool) -> Recorded:
        if not ends:
            return await self._writer.submit(request)
        # To the end, even when cancelled meanwhile: else its block would make a cancellation of this end.
        recorded, cancelled = await self._writer.submit_to_the_end(request)
        self._finished = True
        if cancelled is not None:
            raise cancelled
        return recorded

    def _request(
        self,
        changes: AttemptChanges,
        step_status: str | None,
        *,
        unless_ended: bool = False,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Request:
        command = UpdateAttempt(
            branch=self.branch,
            attempt_id=self.attempt_id,
            changes=changes,
            step_status=step_status,
            unless_ended=unless_ended,
        )
        return Request(
            run_id=self.run_id,
            commands=(command,),
            expected_version=check_expected_version(expected_version),
            idempotency_key=check_key(idempotency_key),
        )


def _ending(status: str, reason: str | None, **fields: Any) -> AttemptChanges:
    ending = {"status": status} if reason is None else {"status": status, "status_reason": reason}
    return attempt_changes({**fields, **ending})


def attempt_fields(fields: Mapping[str, Any]) -> AttemptChanges:
    """Return the fields that a new attempt may begin with."""
    for name in NOT_BEGUN_WITH:
        if name in fields:
            raise InvalidValue("attempt", name, "is not a field that an attempt begins with")
    return attempt_changes(fields)


def attempt_changes(fields: Mapping[str, Any]) -> AttemptChanges:
    """Return the fields as changes.

    Raises:
        InvalidValue: an unknown field, or a value that its field cannot hold.
    """
    checked: dict[str, Any] = {}
    for name, value in fields.items():
        check = _CHECKS.get(name)
        if check is None:
            raise InvalidValue("attempt", name, f"is none of the fields {', '.join(_CHECKS)}")
        checked[name] = None if value is None and name in _NULLABLE else check(value, name)
    return AttemptChanges(**checked)


def check_attempt_document(attempt: object) -> AttemptDocument:
    """Return a copy of an attempt's document when it can be recorded."""
    if not isinstance(attempt, AttemptDocument):
        raise InvalidValue("attempts", attempt, f"holds {type(attempt).__name__}, not AttemptDocument")
    return structs.replace(
        attempt,
        status=check_name(attempt.status, "status"),
        message=check_text(attempt.message, "message"),
        details=check_document(attempt.details, "details"),
        inputs=check_parameters(attempt.inputs),
        outputs=check_parameters(attempt.outputs),
        metrics=check_parameters(attempt.metrics),
        began_at=None if attempt.began_at is None else plain_time(attempt.began_at),
        ended_at=None if attempt.ended_at is None else plain_time(attempt.ended_at),
    )


def _parameters(value: Any, _name: str) -> Any:
    return check_parameters(value)


def _time(value: Any, _name: str) -> Any:
    return plain_time(value)


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "status": check_name,
    "status_reason": check_text,
    "operator_key": check_text,
    "operator_type": check_text,
    "external_id": check_text,
    "operator_data": check_document,
    "relative_path": check_text,
    "message": check_text,
    "inputs": _parameters,
    "outputs": _parameters,
    "metrics": _parameters,
    "details": check_document,
    "submitted_at": _time,
    "ended_at": _time,
}
_NULLABLE = frozenset(_CHECKS) - {"status", "message", "inputs", "outputs", "metrics", "details"}
