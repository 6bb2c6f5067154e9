"""The handle of one attempt."""

from typing import Any

from typing_extensions import Unpack, override

from engine.commands import Request, UpdateAttempt
from engine.events import AttemptCreated
from engine.expected_version import ANY, ExpectedVersion, check_expected_version
from engine.handles.attempt_fields import AttemptEnding, AttemptUpdates, attempt_changes
from engine.model import COMPLETED, TERMINAL_STATUSES, AttemptChanges, AttemptLog
from engine.names import check_key, check_name
from engine.ports import Recorded
from engine.views import Views
from engine.writer import Writer


class Attempt:
    """One attempt at a step; returned by `Branch.attempt`, `Branch.start_attempt` and `Run.find_attempt`.

    `attempt_index` counts the step's attempts from 1. `duplicate` is True if an earlier call with the same idempotency
    key started the attempt; it may have ended since.
    """

    def __init__(
        self,
        writer: Writer,
        views: Views,
        run_id: str,
        branch: str,
        known: AttemptCreated | AttemptLog,
        *,
        duplicate: bool = False,
    ) -> None:
        self._writer = writer
        self._views = views
        self.run_id = run_id
        self.branch = branch
        self.step = known.step
        self.attempt_id = known.attempt_id
        self.attempt_index = known.attempt_index
        self.duplicate = duplicate
        self._finished = False

    @override
    def __repr__(self) -> str:
        return f"<Attempt {self.attempt_index} of {self.step!r} in {self.run_id!r} {self.branch!r}>"

    async def update(
        self,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
        **changes: Unpack[AttemptUpdates],
    ) -> Recorded:
        """Set fields: `status`, `status_reason`, `operator_key`, `operator_type`, `external_id`, `operator_data`,
        `relative_path`, `message`, `inputs`, `outputs`, `metrics`, `details`, `submitted_at`, `ended_at`.

        Fields that are not given stay unchanged; without any, nothing is recorded. A mapping, such as `metrics`,
        replaces the earlier one. `submitted_at` is stamped when the status first leaves `CREATED`, and `ended_at` when
        it first becomes terminal, never earlier than the attempt's creation or submission, even if the clock was set
        back. Explicit times are recorded as given.

        Args:
            expected_version, idempotency_key: as for every write of a `Branch`.

        Raises:
            InvalidName, InvalidValue
            AttemptNotFound: the step was removed.
        """
        request = self._request(
            attempt_changes(changes), None, expected_version=expected_version, idempotency_key=idempotency_key
        )
        ends = changes.get("status") in TERMINAL_STATUSES
        if "status" in changes and not ends:
            self._finished = False  # the attempt is resumed, so its block has to end it again
        return await self._write(request, ends=ends)

    async def finish(
        self,
        status: str = COMPLETED,
        reason: str | None = None,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
        **fields: Unpack[AttemptEnding],
    ) -> Recorded:
        """Set the attempt's final status, and the step's status too if this is the step's current attempt.

        Any status is accepted; the terminal ones are `COMPLETED`, `SUCCESS`, `SKIPPED`, `FAILED`, `FAIL`, `FAILED_INIT`
        and `CANCELLED`. `reason` replaces the status reason; None clears it. Finishing an attempt that has already
        ended changes its status and keeps its `ended_at`.

        Args:
            fields: other fields to set, such as `outputs`, `metrics` and `ended_at`; see `update`.

        Raises:
            InvalidName, InvalidValue, AttemptNotFound
        """
        status = check_name(status, "status")
        ending = _ending(status, reason, **fields)
        request = self._request(ending, status, expected_version=expected_version, idempotency_key=idempotency_key)
        return await self._write(request, ends=True)

    async def finish_unless_finished(self, status: str, reason: str | None = None) -> None:
        """Finish the attempt unless it has already ended; a cancelled caller still waits for the record.

        It is idempotent without a key: a second call finds the attempt ended.

        Raises:
            InvalidName, InvalidValue, AttemptNotFound
        """
        if not self._finished:
            await self._write(self._request(_ending(status, reason), status, unless_ended=True), ends=True)

    async def log(self) -> AttemptLog:
        """Return the attempt's current log.

        Raises:
            AttemptNotFound: the step was removed, or the run deleted.
        """
        _, log = await self._views.attempt(self.run_id, self.attempt_id)
        return log

    async def _write(self, request: Request, *, ends: bool) -> Recorded:
        if not ends:
            return await self._writer.submit(request)
        # Shielded from cancellation: otherwise the attempt's block would overwrite this status with `CANCELLED`.
        recorded, cancelled = await self._writer.submit_shielded(request)
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
