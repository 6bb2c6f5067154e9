"""The engine: access to all runs of one store."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.backup import Backup
from engine.cancellation import finish
from engine.command_check import checked
from engine.commands import SOURCE_HEAD, SOURCE_UNKNOWN, Command, OpenRun, Request
from engine.encoding.values import check_document, check_flag, check_optional, check_parameters, check_text
from engine.errors import StoreBusy
from engine.events import RunCreated, RunForked
from engine.handles.history import History
from engine.handles.run import Run
from engine.handles.upkeep import Upkeep
from engine.model import CREATED, Head, RunPage
from engine.names import ROOT, check_branch, check_key, check_name
from engine.owner import Owner
from engine.point import Point, Position, no_point
from engine.ports import Audit, EventLog, Recorded, ViewMaintenance
from engine.removal import Removal
from engine.times import plain_time, to_microseconds
from engine.transfer.port import Transfer
from engine.turns import listed
from engine.views import Views
from engine.writer import Writer


class Engine(History, Upkeep):
    """An open store, returned by `open_engine`; as an async context manager it closes itself.

    Used on another event loop or in another process than the one that opened it, it raises `WrongEventLoop` or
    `WrongProcess`.
    """

    def __init__(
        self,
        path: Path,
        log: EventLog,
        views: Views,
        *,
        maintenance: ViewMaintenance,
        audit: Audit,
        removal: Removal,
        backup: Backup,
        transfer: Transfer,
    ) -> None:
        History.__init__(self, log, transfer)
        Upkeep.__init__(self, Writer(log), maintenance, audit, removal, backup)
        self._path = path
        self._views = views
        self._owner = Owner()
        self._closing = asyncio.Lock()

    async def __aenter__(self) -> "Engine":
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self.close()
        except StoreBusy as busy:
            if error is None:
                raise
            error.add_note(f"and the engine could not be closed: {busy}")

    async def close(self) -> None:
        """Record queued writes, end subscriptions, and release every thread, descriptor and lock.

        It completes even if the caller is cancelled. First it waits for cancelled tasks to leave their attempt blocks,
        so that the ends of those attempts are recorded: for 30 s at most, or until the caller is cancelled.

        Raises:
            WrongProcess, WrongEventLoop
            StoreBusy: an abandoned write still waits for another process's lock. Close again when the lock is free.
        """
        self._owner.check()
        try:
            await self._writer.blocks.wait_for_cancelled()
        finally:
            await finish(self._close())

    async def _close(self) -> None:
        async with self._closing:  # a concurrent second call waits for the first
            await self._follower.close()
            await self._writer.close()
            await self._log.close()

    async def create_run(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        tag: str = "",
        status: str = CREATED,
        dag_hash: str | None = None,
        original_run_id: str | None = None,
        use_cached: bool = False,
        workspace_slug: str | None = None,
        root_path: str | None = None,
        description: str | None = None,
        tags: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        exist_ok: bool = False,
        idempotency_key: str | None = None,
    ) -> Run:
        """Create a run with its initial parameters, and return it.

        Args:
            exist_ok: return an existing run of that id, unchanged.
            created_at: when the run was created, if not now.

        Raises:
            RunExists, InvalidName, InvalidValue
        """
        texts = {
            "tag": tag,
            "dag_hash": dag_hash,
            "original_run_id": original_run_id,
            "workspace_slug": workspace_slug,
            "root_path": root_path,
            "description": description,
        }
        event = RunCreated(
            branch=ROOT,
            status=check_name(status, "status"),
            use_cached=check_flag(use_cached, "use_cached"),
            tags=check_document({} if tags is None else tags, "tags"),
            created_at=None if created_at is None else plain_time(created_at, "created_at"),
            **{name: check_text(text, name) for name, text in texts.items() if text is not None},
        )
        command = OpenRun(
            event=event,
            parameters=check_parameters({} if parameters is None else parameters),
            exist_ok=check_flag(exist_ok, "exist_ok"),
        )
        return await self._open(run_id, command, idempotency_key)

    async def fork_run(
        self,
        source_run_id: str,
        *,
        run_id: str,
        branch: str | None = None,
        at: Point = None,
        from_step: str | None = None,
        tag: str = "",
        status: str = CREATED,
        idempotency_key: str | None = None,
    ) -> Run:
        """Create a run that continues from a point of another run. Nothing is copied; the source does not change.

        The new run inherits the parameters of the source branch as of that point, and its configuration (for a branch,
        the run's configuration when the branch was forked). It inherits the branch's steps that had succeeded
        (`COMPLETED`, `SUCCESS` or `SKIPPED`), marked by `StepLog.inherited_from`. A write to an inherited step (a
        status, an attempt, a changed document) makes it the new run's own, with the same description but without the
        source's attempts; removing it hides it. Child branches and idempotency keys are not inherited.

        Args:
            branch: the branch of the source; the default is the root.
            at: a version of that branch's stream, an aware time, or a `Position`; the default is now.
            from_step: go back further, to just before this step of the branch began, that is, before its first attempt
                or its first status other than `CREATED` and `PENDING`; if it never began, to before it was first
                logged. A removed step begins again when it is logged again.

        Raises:
            RunExists, RunNotFound, BranchNotFound, PointNotFound, SourceReplaced
            StepNotFound: the branch itself had not logged `from_step` by that point.
        """
        run_id, key = check_name(run_id, "run id"), check_key(idempotency_key)
        source_run_id, branch = check_name(source_run_id, "run id"), check_branch(branch)
        from_step = check_optional(check_name, from_step, "step name")
        if await self._writer.has_recorded(run_id, key):
            head = Head(branch, SOURCE_UNKNOWN, b"")
        else:
            head = await self._fork_point(source_run_id, branch, at, from_step)
        event = RunForked(
            branch=ROOT,
            source_run_id=source_run_id,
            source_branch=head.branch,
            source_version=head.stream_version,
            source_hash=head.hash,
            tag=check_text(tag, "tag"),
            status=check_name(status, "status"),
        )
        return await self._open(run_id, OpenRun(event=event, source_point=_point_text(at, from_step)), key)

    async def _fork_point(self, run_id: str, branch: str, at: Point, from_step: str | None) -> Head:
        if from_step is not None:
            return await self._views.head_before(run_id, branch, from_step, at=at)
        return Head(branch, SOURCE_HEAD, b"") if at is None else await self._views.head_at(run_id, branch, at)

    async def _open(self, run_id: str, command: OpenRun, idempotency_key: str | None) -> Run:
        run_id = check_name(run_id, "run id")
        await self._write(run_id, (command,), idempotency_key)
        return Run(self._writer, self._views, run_id)

    async def run(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            RunNotFound
        """
        run_id = check_name(run_id, "run id")
        await self._views.stream(run_id, ROOT)
        return Run(self._writer, self._views, run_id)

    @property
    def path(self) -> Path:
        """The SQLite file, with symbolic links resolved."""
        return self._path

    @property
    def views(self) -> Views:
        """The reads behind the handles, for callers such as the stores that have names instead of handles."""
        return self._views

    async def write(self, run_id: str, *commands: Command, idempotency_key: str | None = None) -> Recorded:
        """Record several commands for a run, all or none. The first one may open the run.

        Raises:
            InvalidInput: a command cannot be recorded.
            RunNotFound, and the errors of the commands.
        """
        return await self._write(run_id, tuple(await listed(map(checked, commands))), idempotency_key)

    async def _write(self, run_id: str, commands: tuple[Command, ...], idempotency_key: str | None) -> Recorded:
        key = check_key(idempotency_key)
        request = Request(run_id=check_name(run_id, "run id"), commands=commands, idempotency_key=key)
        return await self._writer.submit(request)

    async def runs(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of runs, the last recorded first.

        Args:
            created_from, created_until: aware times, both inclusive.
            limit: 1 to 1,000 runs.
            cursor: the previous page's.
        """
        for name, moment in (("created_from", created_from), ("created_until", created_until)):
            if moment is not None:
                to_microseconds(moment, name)
        for name, text in (("status", status), ("tag", tag)):
            if text is not None:
                check_text(text, name)
        return await self._views.runs(
            status=status,
            tag=tag,
            created_from=created_from,
            created_until=created_until,
            limit=limit,
            cursor=cursor,
        )


def _point_text(at: Point, from_step: str | None) -> str:
    """Return a text that identifies a fork point, equal for equal points; empty for now."""
    if at is None and from_step is None:
        return ""
    if not isinstance(at, int | Position | datetime | None):
        raise no_point(at)
    moment = f"{to_microseconds(at, 'at')} µs" if isinstance(at, datetime) else f"{at}"
    return moment if from_step is None else f"{moment} {from_step}"
