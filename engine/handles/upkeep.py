"""Maintenance of a store: verification, rebuilding views, backups, erasure and deletion."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.backup import BackedUp, Backup, BackupProgress
from engine.checkpoint import Checkpoint
from engine.commands import Pin, Request
from engine.encoding.values import check_flag, check_function, check_optional, check_text, check_version
from engine.errors import InvalidValue, RunKept, RunNotFound, TracesLeft
from engine.findings import Verification
from engine.model import TERMINAL_STATUSES, UNENDED_STATUSES
from engine.names import check_branch, check_name
from engine.ports import Audit, Progress, Recorded, ViewDifference, ViewMaintenance
from engine.removal import Collected, Compaction, DeletedRun, Deletion, Erasure, Expiry, Removal
from engine.times import to_microseconds
from engine.writer import Writer


class Upkeep:
    """The maintenance methods of an `Engine`."""

    def __init__(
        self, writer: Writer, maintenance: ViewMaintenance, audit: Audit, removal: Removal, backup: Backup
    ) -> None:
        self._writer = writer
        self._maintenance = maintenance
        self._audit = audit
        self._removal = removal
        self._backup = backup

    async def verify(
        self, run_id: str | None = None, since: Checkpoint | None = None, progress: Progress | None = None
    ) -> Verification:
        """Recompute every hash in a run's history, or in the whole store, and check every link.

        Reductions by the built-in rules are repeated from the children's events and compared. The result's `problems`
        hold the first problem of each stream; the list is empty if there are none.

        Without a checkpoint this detects accidents and clumsy edits, but not a rewrite that recomputes every hash, or a
        careful truncation of a run's last events.

        Args:
            run_id: only this run and the sources that it reads through.
            since: a checkpoint of this store, which needs a verification of the whole store: proves that everything in
                the checkpoint is still there, unchanged. A run that was deleted since is a problem of its own kind,
                and the rest is still proven.
            progress: called with the number of events checked and the approximate total.

        Raises:
            RunNotFound, CheckpointOfAnotherStore
        """
        if since is not None and not isinstance(since, Checkpoint):
            raise InvalidValue("since", since, f"is {type(since).__name__}, not a Checkpoint")
        run_id = check_optional(check_name, run_id, "run id")
        return await self._audit.verify(run_id, since, check_function(progress, "progress"))

    async def checkpoint(self) -> Checkpoint:
        """Return a commitment to the current contents of the store, to be kept elsewhere for `verify`."""
        return await self._audit.checkpoint()

    async def rebuild(self, progress: Progress | None = None) -> int:
        """Rebuild every view from the events alone, and return the number of events.

        Args:
            progress: called with the position reached and the last position, after each chunk.

        Raises:
            RebuildRunning
            ReadFailed: events cannot be read, or the file is so damaged that writing could overwrite them. Nothing was
                written.
        """
        return await self._maintenance.rebuild(check_function(progress, "progress"))

    async def verify_views(self, progress: Progress | None = None) -> list[ViewDifference]:
        """Fold the log into new views, and return how the live views differ: an empty list if they are correct."""
        return await self._maintenance.compare(check_function(progress, "progress"))

    async def backup(self, path: str | Path, progress: BackupProgress | None = None) -> BackedUp:
        """Copy the whole store to `path`, as a consistent snapshot, while others write.

        The copy is a single file, readable only by its owner (mode 0600), synced to the disk. It is verified, as by
        `verify` and `verify_views`, before it gets its name: `path` holds either a complete copy or no file.

        It is the same store: checkpoints taken earlier hold for the copy, and data erased or deleted later stays in it.
        The copy may be on a network file system, because one process writes it once; opening a store there needs
        `allow_network`. Until the pages are copied, a process that forks waits, and the write-ahead log is not reused.

        Args:
            path: of a file that does not exist, in a folder that does.
            progress: called with the phase (`copying`, `checking`, `verifying`, `comparing`), the work done and the
                total.

        Raises:
            BackupExists: there is such a file, or one beside it that SQLite would take for part of the copy.
            BackupFailed: the folder is not writable, or the store is damaged.
            DiskFull, InvalidValue
        """
        if not isinstance(path, str | Path):
            raise InvalidValue("path", path, f"is {type(path).__name__}, not a path")
        return await self._backup.backup(Path(path), check_function(progress, "progress"))

    async def erase(
        self,
        run_id: str,
        branch: str | None,
        version: int,
        reason: str,
        *,
        by: str | None = None,
        compact: bool = True,
    ) -> Erasure:
        """Erase an event's contents permanently. The hash chain, every hash and every checkpoint stay valid.

        Values, texts and documents are erased; names, statuses, times and links stay (`engine.proof.redaction`). An
        event records who erased them and why, and the views show the values as erased. A repeated erasure only
        compacts. The result names other events that hold some of the data: reductions with one of its values, and, the
        first time only, events that describe the same step with the same text, and values carried over to runs whose
        source was deleted. Copies of the file, such as the one that migrating a state store leaves, are not touched.

        Args:
            version: the event's version in the branch's stream.
            compact: also rewrite the file, so that no trace is left in it (see `compact`). Without it, the bytes may
                remain in unused parts of the file; to erase several events, skip it and call `compact` once.

        Raises:
            RunNotFound, BranchNotFound, PointNotFound
            NotErasable: the event holds only its place and its links, or is of an older version whose redacted form
                could not be told from the original.
            CannotDecode: a newer anabranch wrote it.
            TracesLeft: it is erased, but a long-running reader keeps its bytes in the file.
            RowDamaged: the event is not what was hashed; nothing was erased.
            DiskFull, ReadFailed, StoreBusy: the event may be erased but the file not compacted; erase it again, or
                compact.
        """
        check_flag(compact, "compact")
        erasure = await self._removal.erase(
            check_name(run_id, "run id"),
            check_branch(branch),
            check_version(version, "version"),
            _checked_reason(reason),
            check_optional(check_text, by, "by"),
        )
        if compact and not (await self._removal.compact()).complete:
            raise TracesLeft(run_id, check_branch(branch), version)
        return erasure

    async def compact(self) -> Compaction:
        """Rewrite the file without its unused parts, and empty the write-ahead log.

        It needs disk space for a second copy, and writers wait meanwhile. It waits up to 5 s for readers of an older
        snapshot; if the result is not `complete`, a later commit frees the remaining space.

        Raises:
            ReadFailed: pages of the file are damaged; nothing was written.
            DiskFull, StoreBusy
        """
        return await self._removal.compact()

    async def pin(self, run_id: str, reason: str | None = None) -> Recorded:
        """Protect a run from deletion.

        Raises:
            RunNotFound
        """
        return await self._pin(run_id, reason, pinned=True)

    async def unpin(self, run_id: str, reason: str | None = None) -> Recorded:
        """Allow a pinned run to be deleted again.

        Raises:
            RunNotFound
        """
        return await self._pin(run_id, reason, pinned=False)

    async def _pin(self, run_id: str, reason: str | None, *, pinned: bool) -> Recorded:
        command = Pin(pinned=pinned, reason=check_optional(check_text, reason, "reason"))
        return await self._writer.submit(Request(run_id=check_name(run_id, "run id"), commands=(command,)))

    async def delete_run(self, run_id: str, reason: str, *, carry_over: bool = False) -> DeletedRun:
        """Delete a run with its whole history. A record of its existence, and of when and why it was deleted, remains.

        Against a checkpoint that includes the run, `verify` reports it as deleted and proves the rest. The space in the
        file is reused; `compact` returns it to the file system.

        Args:
            carry_over: first copy what forked runs inherit from this run into them, as of their forks. Its steps become
                their own, with their attempts, and further attempts continue the numbering. A copy may be an event
                larger than `event_bytes_max`, so that importing it elsewhere needs a higher limit.

        Raises:
            RunNotFound, RunIsPinned
            RunHasForks: unless `carry_over` is set.
        """
        return await self._removal.delete_run(
            check_name(run_id, "run id"),
            _checked_reason(reason),
            carry_over=check_flag(carry_over, "carry_over"),
            expiry=None,
        )

    async def deletions(self) -> list[Deletion]:
        """Return the records of deleted runs, the last deleted first.

        `verify` with a checkpoint proves that none of the runs in the checkpoint is missing from the list.
        """
        return await self._removal.deletions()

    async def collect(
        self,
        older_than: timedelta | datetime,
        *,
        statuses: Collection[str] = TERMINAL_STATUSES,
        reason: str = "expired",
        dry_run: bool = False,
    ) -> Collected:
        """Delete expired runs, newest first, each in a transaction of its own.

        Runs that are pinned, or that a fork reads through, are kept. The expiry is checked again when a run is deleted,
        so a run that has continued meanwhile is kept too.

        An event is never considered older than the events before it in the log, so a clock that was set back does not
        make a run look old. An event with a time in the future does not affect those after it; its own run is kept
        until that time. Ages are relative to this machine's clock, which the log cannot check.

        Args:
            older_than: an age or an aware time: the last event of the run is at least that old.
            statuses: only runs with these statuses; the default is the terminal ones. The host's own statuses are
                allowed, but not those of unfinished runs (`CREATED`, `PENDING`, `RUNNING` and the like).
            dry_run: delete nothing; return the runs that would be deleted.

        Raises:
            InvalidValue: before anything is deleted.
        """
        reason = _checked_reason(reason)
        until = to_microseconds(_cutoff(older_than), "older_than")
        expiry = Expiry(_checked_statuses(statuses), until, await self._removal.recorded_until(until))
        found = await self._removal.expired(expiry)
        if check_flag(dry_run, "dry_run"):
            return found
        collected = Collected(deleted=[], kept=found.kept, others=found.others)
        for run in found.deleted:
            try:
                deleted = await self._removal.delete_run(run.run_id, reason, carry_over=False, expiry=expiry)
                collected.deleted.append(deleted)
            except RunKept as error:
                collected.kept[run.run_id] = str(error)
            except RunNotFound:  # another process collects at the same time
                continue
        return collected


def _checked_statuses(statuses: Collection[str]) -> frozenset[str]:
    if isinstance(statuses, str) or not isinstance(statuses, Collection):
        raise InvalidValue("statuses", statuses, "is not a collection of statuses")
    for status in statuses:
        if check_text(status, "statuses") in UNENDED_STATUSES:
            raise InvalidValue("statuses", status, "is a status of unfinished runs, which are never collected")
    return frozenset(statuses)


def _cutoff(older_than: timedelta | datetime) -> datetime:
    if isinstance(older_than, datetime):
        return older_than
    if not isinstance(older_than, timedelta):
        raise InvalidValue("older_than", older_than, f"is {type(older_than).__name__}, not a timedelta or a datetime")
    if older_than < timedelta(0):
        raise InvalidValue("older_than", str(older_than), "is negative")
    try:
        return datetime.now(UTC) - older_than
    except OverflowError as error:
        raise InvalidValue("older_than", str(older_than), "reaches back before the year 1") from error


def _checked_reason(reason: object) -> str:
    text = check_text(reason, "reason")
    if not text.strip():
        raise InvalidValue("reason", text, "is blank; give a reason")
    return text
