"""Keeping a store: proving it, rebuilding its views, and taking out what has to go."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.backup import BackedUp, Backup, BackupProgress
from engine.checkpoint import Checkpoint
from engine.commands import Pin, Request
from engine.errors import InvalidValue, RunKept, RunNotFound, TracesLeft
from engine.findings import Verification
from engine.model import TERMINAL_STATUSES, UNENDED_STATUSES
from engine.names import check_branch, check_name
from engine.ports import Audit, Progress, Recorded, ViewDifference, ViewMaintenance
from engine.removal import Collected, Compaction, DeletedRun, Deletion, Erasure, Expiry, Removal
from engine.times import to_microseconds
from engine.values import check_flag, check_function, check_optional, check_text, check_version
from engine.writer import Writer


class Upkeep:
    """What an `Engine` does for the store as a whole."""

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
        """Compute every hash anew along a run's history, or the whole store's, and follow every link in it.

        Reductions by the built-in rules are made again from the children's events and compared. The first thing that
        is wrong with each stream is in the answer's `problems`, which are empty when nothing is.

        Without a checkpoint this shows accidents and clumsy edits, not a rewrite of everything by someone who computes
        every hash anew, nor that the last events of a run were cut off with care.

        Args:
            run_id: only this run and those that it was forked from and reads through.
            since: a checkpoint of this store, for the whole of it: proves that what it saw is still there, unchanged. A
                run that it saw and that was deleted since is a problem of its own kind, and the rest is proven.
            progress: called with how many events were checked and about how many there are.

        Raises:
            RunNotFound, CheckpointOfAnotherStore
        """
        if since is not None and not isinstance(since, Checkpoint):
            raise InvalidValue("since", since, f"is {type(since).__name__}, not a Checkpoint")
        run_id = check_optional(check_name, run_id, "run id")
        return await self._audit.verify(run_id, since, check_function(progress, "progress"))

    async def checkpoint(self) -> Checkpoint:
        """Return a commitment to everything in the store as it stands, to be kept elsewhere for `verify`."""
        return await self._audit.checkpoint()

    async def rebuild(self, progress: Progress | None = None) -> int:
        """Make every view anew from the events alone; return how many events there were.

        Args:
            progress: called with the position reached and the last position, after each chunk.

        Raises:
            RebuildRunning
            ReadFailed: events cannot be read, or what would be written may be written over them. Nothing was written.
        """
        return await self._maintenance.rebuild(check_function(progress, "progress"))

    async def verify_views(self, progress: Progress | None = None) -> list[ViewDifference]:
        """Fold the log anew and return where the live views differ from it: an empty list when they are true."""
        return await self._maintenance.compare(check_function(progress, "progress"))

    async def backup(self, path: str | Path, progress: BackupProgress | None = None) -> BackedUp:
        """Make a copy of the whole store at `path`, as it stands at one moment, while others write.

        The copy is one file that opens by itself, for its owner alone (mode 0600), synced to the disk. Before it has
        its name it is opened and proven, as by `verify` and `verify_views`. However this ends, there is a whole copy at
        `path` or no file.

        It is the same store: a checkpoint that was taken before holds for the copy, and what is erased or deleted
        later stays in it. It may be on a network file system, for it is written by one process, once; a store is opened
        there only if asked to. A process that forks meanwhile waits until the pages are copied, and the write-ahead log
        is not reused for as long.

        Args:
            path: of a file that is not there, in a folder that is.
            progress: called with what is being done (`copying`, `checking`, `verifying`, `comparing`), how far that is,
                and how far it goes.

        Raises:
            BackupExists: there is a file, or one beside it that SQLite would take for a part of the copy.
            BackupFailed: the folder cannot be written, or the store is damaged.
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
        """Erase what one event said, for good. Its place in the chain, and so every hash and checkpoint, stays whole.

        Values, texts and documents go; names, statuses, times and links stay (`engine.proof.redaction`). An event
        records who erased it and why. The views show what was erased as erased. Erasing it again only compacts. The
        answer names what still says some of it: reductions that hold a value of it, and, the first time, what describes
        the same step in the same words, and what was carried over to runs whose source was deleted. Copies of the file
        are not touched, nor is the one that migrating a state store leaves beside it.

        Args:
            version: the event's version in the branch's stream.
            compact: also write the file anew, so that no trace is left in it (see `compact`). Without it the bytes may
                still be found in unused parts of the file: for several erasures in a row, with `compact` after them.

        Raises:
            RunNotFound, BranchNotFound, PointNotFound
            NotErasable: the event holds nothing but where it stands and what it is linked to, or is of an older version
                and what is left of it could not be told from that.
            CannotDecode: a newer anabranch wrote it.
            TracesLeft: it is erased, and a reader who does not end keeps its bytes in the file.
            RowDamaged: it is not what was hashed, and nothing was erased.
            DiskFull, ReadFailed, StoreBusy: also where it is erased and could not be compacted: erase it again, or
                compact.
        """
        check_flag(compact, "compact")
        erasure = await self._removal.erase(
            check_name(run_id, "run id"),
            check_branch(branch),
            check_version(version, "version"),
            _reason(reason),
            check_optional(check_text, by, "by"),
        )
        if compact and not (await self._removal.compact()).complete:
            raise TracesLeft(run_id, check_branch(branch), version)
        return erasure

    async def compact(self) -> Compaction:
        """Write the file anew without its unused parts, and empty the write-ahead log.

        It needs room for a second copy, and writers wait meanwhile. Who reads an older state of the file is waited for,
        up to 5 s; where the answer is not `complete`, the rest comes back with a later commit.

        Raises:
            ReadFailed: pages of it are damaged, and nothing was written.
            DiskFull, StoreBusy
        """
        return await self._removal.compact()

    async def pin(self, run_id: str, reason: str | None = None) -> Recorded:
        """Keep a run from being deleted.

        Raises:
            RunNotFound
        """
        return await self._pin(run_id, reason, pinned=True)

    async def unpin(self, run_id: str, reason: str | None = None) -> Recorded:
        """Let a run be deleted again.

        Raises:
            RunNotFound
        """
        return await self._pin(run_id, reason, pinned=False)

    async def _pin(self, run_id: str, reason: str | None, *, pinned: bool) -> Recorded:
        command = Pin(pinned=pinned, reason=check_optional(check_text, reason, "reason"))
        return await self._writer.submit(Request(run_id=check_name(run_id, "run id"), commands=(command,)))

    async def delete_run(self, run_id: str, reason: str, *, carry_over: bool = False) -> DeletedRun:
        """Delete a run with its whole history. That it was there, when it went and why stays on record.

        Against a checkpoint that saw the run, `verify` names it as deleted and proves the rest. The space is used
        again; `compact` gives it back.

        Args:
            carry_over: first give what runs forked from it saw of it to them, as of their fork. Its steps are their
                own from then on, with their attempts: the next attempt at one goes on counting behind these. What each
                gets may be more than `event_bytes_max`: an import of it elsewhere needs a higher one.

        Raises:
            RunNotFound, RunIsPinned
            RunHasForks: unless it is carried over.
        """
        return await self._removal.delete_run(
            check_name(run_id, "run id"),
            _reason(reason),
            carry_over=check_flag(carry_over, "carry_over"),
            expiry=None,
        )

    async def deletions(self) -> list[Deletion]:
        """Return which runs were deleted, the last deleted first: when and why, as the store says.

        `verify` with a checkpoint proves that the list leaves out none that the checkpoint saw.
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
        """Delete the runs that ended long ago: newest first, each whole or not at all.

        A run is kept that is pinned, or that another run was forked from and reads through. Whether it has expired is
        looked at again when it is deleted: a run that goes on meanwhile is kept, too.

        What stands behind an event in the log is not older than that event, whatever the clock said when it was
        recorded: a clock that was set back makes no run old. An event of a time that is yet to come says nothing of
        those behind it, and its own run is kept until then. Ages count from what this machine's clock says now, and
        nothing in the log can tell whether that is right.

        Args:
            older_than: an age or an aware time: the last event of the run is at least that old.
            statuses: only runs of these: those that say how a run ended, unless given. Any words of the host's own will
                do, and none that says that a run goes on (`CREATED`, `PENDING`, `RUNNING` and the like).
            dry_run: delete nothing, and say what would be.

        Raises:
            InvalidValue: before anything is deleted.
        """
        reason = _reason(reason)
        until = to_microseconds(_since(older_than))
        expiry = Expiry(_ended(statuses), until, await self._removal.recorded_until(until))
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
            except RunNotFound:  # somebody else collects, too
                continue
        return collected


def _ended(statuses: Collection[str]) -> frozenset[str]:
    if isinstance(statuses, str) or not isinstance(statuses, Collection):
        raise InvalidValue("statuses", statuses, "is not a collection of statuses")
    for status in statuses:
        if check_text(status, "statuses") in UNENDED_STATUSES:
            raise InvalidValue("statuses", status, "is of runs that go on")
    return frozenset(statuses)


def _since(older_than: timedelta | datetime) -> datetime:
    if isinstance(older_than, datetime):
        return older_than
    if not isinstance(older_than, timedelta):
        raise InvalidValue("older_than", older_than, f"is {type(older_than).__name__}, not a timedelta or a datetime")
    if older_than < timedelta(0):
        raise InvalidValue("older_than", str(older_than), "is no age")
    try:
        return datetime.now(UTC) - older_than
    except OverflowError as error:
        raise InvalidValue("older_than", str(older_than), "reaches back before the year 1") from error


def _reason(reason: object) -> str:
    text = check_text(reason, "reason")
    if not text.strip():
        raise InvalidValue("reason", text, "says nothing")
    return text
