"""Access to the events: reading and following them, and exporting and importing runs."""

import contextlib
import io
from collections.abc import AsyncGenerator, Iterable
from typing import BinaryIO

from engine.codec import EVENT_TYPES
from engine.encoding.values import check_flag, check_function, check_optional, check_position, check_several
from engine.errors import InvalidValue
from engine.events import RecordedEvent
from engine.names import check_branch, check_name
from engine.point import Position
from engine.ports import EventFilter, EventLog, Progress
from engine.subscription import Follower, Subscription, read_log
from engine.transfer.port import Imported, Transfer


class History:
    """The methods of an `Engine` for events."""

    def __init__(self, log: EventLog, transfer: Transfer) -> None:
        self._log = log
        self._transfer = transfer
        self._follower = Follower(log)

    async def events(
        self,
        *,
        run_id: str | None = None,
        branch: str | None = None,
        descendants: bool = False,
        types: Iterable[type | str] | None = None,
        after: int | Position = 0,
        until: int | Position | None = None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Yield the events recorded so far, in order of position.

        Args:
            run_id: only this run's.
            branch: only this branch's (`""` is the root; None is every branch); needs `run_id`.
            descendants: include the descendants of `branch`.
            types: only these event classes, or names of them.
            after, until: positions; `after` is exclusive, `until` inclusive.

        Raises:
            RunNotFound, BranchNotFound, CannotDecode
        """
        selected = _filter(run_id, branch, types, descendants=descendants)
        last = check_optional(check_position, until, "until")
        async with contextlib.aclosing(read_log(self._log, selected, check_position(after, "after"), last)) as found:
            async for recorded in found:
                yield recorded

    def subscribe(
        self,
        *,
        run_id: str | None = None,
        branch: str | None = None,
        descendants: bool = False,
        types: Iterable[type | str] | None = None,
        after: int | Position = 0,
    ) -> Subscription:
        """Follow the events: those recorded so far, then new ones from any process, without gaps or duplicates.

        Takes the arguments of `events` except `until`. Ends when the engine is closed, also if events are left: to go
        on later, pass the position of the last one as `after`.

        Raises:
            EngineClosed, InvalidInput
            RunNotFound, BranchNotFound, CannotDecode: when the next event is requested. The run and the branch have to
                exist (to wait for them, follow all runs, and select by `recorded.run_id` and `branch`); if the run is
                deleted meanwhile, that is noticed at the next event of any run.
        """
        selected = _filter(run_id, branch, types, descendants=descendants)
        return self._follower.follow(selected, check_position(after, "after"))

    async def export_runs(
        self,
        run_ids: Iterable[str] | None = None,
        *,
        with_sources: bool = False,
        readable: bool = True,
        progress: Progress | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield runs as chunks of JSON lines: every event with its envelope, in deterministic bytes.

        Sources come before their forks. Idempotency keys are not exported (`engine.transfer.lines`).

        Args:
            run_ids: the default is every run.
            with_sources: include the runs that they were forked from, recursively.
            readable: add each payload in readable form to its bytes; without it the export is shorter: by a fifth
                if the values are small, by almost half if they are large.
            progress: called with the number of events done and their total.

        Raises:
            RunNotFound
            ExportOvertaken: a run was deleted, or events of it erased, while it was exported.
        """
        chosen = None
        if run_ids is not None:
            chosen = [check_name(run_id, "run id") for run_id in check_several(run_ids, "run_ids")]
        found = self._transfer.export_runs(
            chosen,
            with_sources=check_flag(with_sources, "with_sources"),
            readable=check_flag(readable, "readable"),
            progress=check_function(progress, "progress"),
        )
        async with contextlib.aclosing(found):
            async for lines in found:
                yield lines

    async def import_runs(self, file: BinaryIO, *, progress: Progress | None = None) -> Imported:
        """Import the runs of an export with their ids, times and hashes, all or none.

        Every hash, link and reduction is checked. A run that already exists with identical bytes is skipped. Runs keep
        their ids, which are part of every hash. Other writers wait meanwhile.

        Args:
            file: open for reading bytes. Other writers wait while it is read, so prefer a file to a pipe.
            progress: called with the number of bytes done and their total.

        Raises:
            ImportRefused, CannotDecode, ImportedEventTooLarge: what is wrong with the file, and in which line.
            DifferentRunExists, ImportedAttemptExists
        """
        if not callable(getattr(file, "read", None)):
            raise InvalidValue("file", file, f"is {type(file).__name__}, not a file open for reading")
        if isinstance(file, io.TextIOBase):
            raise InvalidValue("file", file, 'is open for text, not for bytes: open it with mode="rb"')
        return await self._transfer.import_runs(file, check_function(progress, "progress"))

    async def last_position(self) -> int:
        """Return the position of the last event, 0 if there is none."""
        return await self._log.last_position()


def _filter(
    run_id: str | None, branch: str | None, types: Iterable[type | str] | None, *, descendants: bool
) -> EventFilter:
    if branch is not None and run_id is None:
        raise InvalidValue("branch", branch, "needs a run_id")
    run_id = check_optional(check_name, run_id, "run id")
    branch = None if branch is None else check_branch(branch)
    names = None if types is None else frozenset(_event_type(each) for each in check_several(types, "types"))
    return EventFilter(run_id, branch, check_flag(descendants, "descendants"), names)


def _event_type(event_type: object) -> str:
    name = event_type.__name__ if isinstance(event_type, type) else event_type
    if not isinstance(name, str) or name not in EVENT_TYPES:
        raise InvalidValue("types", name, f"is not one of the event types {', '.join(EVENT_TYPES)}")
    return name
