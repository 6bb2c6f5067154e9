"""The handle of a run: its root branch, and the operations on the run as a whole."""

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from engine.commands import Command, Configure, Finalize, SetStatus
from engine.encoding.values import check_document, check_flag
from engine.expected_version import ANY, ExpectedVersion
from engine.handles.attempt import Attempt
from engine.handles.branch import Branch
from engine.model import AttemptLog, RunInfo, RunLog
from engine.names import ROOT, check_branch, check_name
from engine.point import Point
from engine.ports import Recorded
from engine.views import Views
from engine.writer import Writer


class Run(Branch):
    """A run, which is its own root branch; returned by `Engine.create_run`, `run` and `fork_run`."""

    def __init__(self, writer: Writer, views: Views, run_id: str) -> None:
        super().__init__(writer, views, run_id, ROOT)

    async def branch(self, name: str | None) -> Branch:
        """Return the branch of that full name; `""` and None return the run itself, its root.

        Raises:
            BranchNotFound
        """
        stream = await self._views.stream(self.run_id, check_branch(name))
        if stream.branch == ROOT:
            return self
        return Branch(self._writer, self._views, self.run_id, stream.branch)

    async def find_attempt(self, attempt_id: str) -> Attempt:
        """Return the handle of an attempt of any branch of the run.

        Raises:
            AttemptNotFound
        """
        branch, log = await self._views.attempt(self.run_id, check_name(attempt_id, "attempt id"))
        return Attempt(self._writer, self._views, self.run_id, branch, log)

    async def info(self, *, at: Point = None) -> RunInfo:
        """Return the run's row in the list of runs, now or as of a point."""
        return await self._views.run_info(self.run_id, at=at)

    async def configure(
        self,
        config: Mapping[str, Any],
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Merge into the run's configuration, key by key, recording only changes.

        A forked run inherits its source's configuration as of the fork; its own keys take precedence.
        """
        command = Configure(config=check_document(config, "config"))
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def log_job(
        self,
        job: Mapping[str, Any],
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Set the run's job log, a document in the caller's format."""
        command = Configure(job=check_document(job, "job"))
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def finalize(
        self,
        status: str | None = None,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Record the head of every stream, after setting the run's status if one is given.

        It closes nothing: a retried run continues in the same streams.
        """
        commands: list[Command] = []
        if status is not None:
            commands.append(SetStatus(status=check_name(status, "status")))
        return await self._write(
            *commands, Finalize(), expected_version=expected_version, idempotency_key=idempotency_key
        )

    async def all_attempts(self, *, at: Point = None) -> list[tuple[str, AttemptLog]]:
        """Return the attempts of all branches, each with its branch, in order of creation.

        Args:
            at: as of a version of the root branch's stream, an aware time, or a `Position`; None for now.
        """
        return await self._views.attempts(self.run_id, None, None, at=at)

    @override
    async def compile(self, *, at: Point = None, nested: bool = True, inherited: bool = True) -> RunLog:
        """Return the compiled run log. Takes the arguments of `Branch.compile`; a version refers to the root branch."""
        nested, inherited = check_flag(nested, "nested"), check_flag(inherited, "inherited")
        return await self._views.compile(self.run_id, at=at, nested=nested, inherited=inherited)
