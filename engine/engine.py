"""The engine: the door to all runs of one store."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.backup import Backup
from engine.cancellation import finish
from engine.command_check import checked
from engine.commands import SOURCE_HEAD, SOURCE_UNKNOWN, Command, OpenRun, Request
from engine.errors import StoreBusy
from engine.events import RunCreated, RunForked
from engine.history import History
from engine.model import CREATED, Head, RunPage
from engine.names import ROOT, check_branch, check_key, check_name
from engine.owner import Owner
from engine.point import Point, Position, no_point
from engine.ports import Audit, EventLog, Recorded, ViewMaintenance
from engine.removal import Removal
from engine.run import Run
from engine.times import plain_time, to_microseconds
from engine.transfer.port import Transfer
from engine.upkeep import Upkeep
from engine.values import check_document, check_flag, check_optional, check_parameters, check_text
from engine.views import Views
from engine.writer import Writer


class Engine(History, Upkeep):
    """Made by `open_engine`; an async context manager that closes it.

    Anywhere but on the event loop and in the process that opened it, it raises `WrongEventLoop` or `WrongProcess`.
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
            error.add_note(f"and the engine is not closed: {busy}")

    async def close(self) -> None:
        """Record what is queued, end subscriptions, and let go of every thread, descriptor and lock.

        It does so to the end even when the caller is cancelled. First it waits until tasks that are being cancelled
        have left their blocks of attempts, so that those ends are recorded, too: for 30 s at most, and no longer when
        the caller is cancelled once more.

        Raises:
            WrongProcess, WrongEventLoop
            StoreBusy: a write that was given up on still waits for another process's lock. Close again when it is free.
        """
        self._owner.check()
        try:
            await self._writer.blocks.end_of_cancelled()
        finally:
            await finish(self._close())

    async def _close(self) -> None:
        async with self._closing:  # whoever calls second waits until all is closed
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
        """Open a run, with its first parameters, and return it.

        Args:
            exist_ok: return a run that exists already as it is.
            created_at: when it was created, where that is not now.

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
            created_at=None if created_at is None else plain_time(created_at),
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
        """Open a run that goes on from a point of another run. Nothing is copied, and nothing changes in the source.

        The new run sees the parameters of the source's branch as they stood, and its configuration, which of a branch
        is that of its run when it was forked. It sees the branch's steps that had succeeded (`COMPLETED`, `SUCCESS` or
        `SKIPPED`), marked by `StepLog.inherited_from`. What is written about one of them (a status, an attempt, a
        document that says something new) makes it the new run's own, described as before but without the source's
        attempts; one that is removed is gone. The branches below are the source's alone, and so are its idempotency
        keys.

        Args:
            branch: the branch of the source; its root unless given.
            at: a version of that branch's stream, an aware time, or a `Position`; now unless given.
            from_step: go further back, to just before this step of the branch began: before its first attempt or its
                first status but `CREATED` and `PENDING`; where it never began, to before it was first logged. A step
                that was removed begins anew.

        Raises:
            RunExists, RunNotFound, BranchNotFound, PointNotFound, SourceReplaced
            StepNotFound: the branch itself had not logged `from_step` by the point.
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
        """The SQLite file that holds the views, by whatever link it was opened."""
        return self._path

    @property
    def views(self) -> Views:
        """What handles read, for those who have a name and no handle, such as the stores."""
        return self._views

    async def write(self, run_id: str, *commands: Command, idempotency_key: str | None = None) -> Recorded:
        """Record several commands for a run, which they may open themselves, together or not at all.

        Raises:
            InvalidInput: a command holds what cannot be recorded.
            RunNotFound, and what the commands raise.
        """
        return await self._write(run_id, tuple(map(checked, commands)), idempotency_key)

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
            created_from, created_until: aware times; both ends belong to the range.
            limit: 1 to 1,000 runs.
            cursor: of the page before.
        """
        for moment in (created_from, created_until):
            if moment is not None:
                to_microseconds(moment)
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
    """Return what names a point of a source: the same for what is the same point, nothing for now."""
    if at is None and from_step is None:
        return ""
    if not isinstance(at, int | Position | datetime | None):
        raise no_point(at)
    moment = f"{to_microseconds(at)} µs" if isinstance(at, datetime) else f"{at}"
    return moment if from_step is None else f"{moment} {from_step}"
