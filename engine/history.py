"""The events themselves: reading and following them, giving runs to another store and taking them in."""

import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import BinaryIO

from engine.codec import EVENT_TYPES
from engine.errors import InvalidValue
from engine.events import RecordedEvent
from engine.names import check_branch, check_name
from engine.point import Position
from engine.ports import EventFilter, EventLog, Progress
from engine.subscription import Follower, Subscription, read_log
from engine.transfer.port import Imported, Transfer
from engine.values import check_flag, check_function, check_optional, check_position, check_several


class History:
    """What an `Engine` says of the events as they were recorded."""

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
        """Yield what is recorded now, in order of position.

        Args:
            run_id: only this run's.
            branch: only this branch's (`""` is the root; None is every branch); needs `run_id`.
            descendants: also of the branches below `branch`.
            types: only these: event classes or their names.
            after, until: positions; `after` is exclusive, `until` inclusive.

        Raises:
            RunNotFound, BranchNotFound, CannotDecode
        """
        wanted = _filter(run_id, branch, types, descendants=descendants)
        last = check_optional(check_position, until, "until")
        async with contextlib.aclosing(read_log(self._log, wanted, check_position(after, "after"), last)) as found:
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
        """Follow what is recorded, then what comes, from this process or another, without gap or duplicate.

        Takes the arguments of `events`; ends when the engine is closed.

        Raises:
            EngineClosed, InvalidInput
            RunNotFound, BranchNotFound, CannotDecode: when the next event is asked for. What is to be followed has to
                be there; of a run that is deleted meanwhile this is known with the next event of any run.
        """
        wanted = _filter(run_id, branch, types, descendants=descendants)
        return self._follower.follow(wanted, check_position(after, "after"))

    async def export_runs(
        self,
        run_ids: Iterable[str] | None = None,
        *,
        with_sources: bool = False,
        readable: bool = True,
        progress: Progress | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield runs as lines of JSON, many at a time: every event with its envelope, always in the same bytes.

        Sources stand before their forks. Idempotency keys are not exported (`engine.transfer.lines`).

        Args:
            run_ids: every run, unless given.
            with_sources: also the runs that they were forked from, and so on.
            readable: say beside each payload's bytes what it says; without it the export is about half as long.
            progress: called with how many events are done and how many there are.

        Raises:
            RunNotFound
            ExportOvertaken: events of a run were erased, or the run deleted, while it was exported.
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
        """Take in the runs of an export with their ids, times and hashes, all of them or none.

        Every hash, link and reduction is checked. A run that is there already, the same in every byte, is left as it
        is. Runs keep their ids, which are part of every hash. Others who write wait meanwhile.

        Args:
            file: open for reading bytes. It is read while others wait: let it be a file, not a pipe.
            progress: called with how many bytes are done and how many there are.

        Raises:
            ImportRefused, CannotDecode, ImportedEventTooLarge: what is wrong with the file, and in which line.
            DifferentRunExists, ImportedAttemptExists
        """
        if not callable(getattr(file, "read", None)):
            raise InvalidValue("file", file, f"is {type(file).__name__}, which cannot be read")
        return await self._transfer.import_runs(file, check_function(progress, "progress"))

    async def last_position(self) -> int:
        """Return the position of the last event, 0 when there is none."""
        return await self._log.last_position()


def _filter(
    run_id: str | None, branch: str | None, types: Iterable[type | str] | None, *, descendants: bool
) -> EventFilter:
    if branch is not None and run_id is None:
        raise InvalidValue("branch", branch, "is given without its run_id")
    run_id = check_optional(check_name, run_id, "run id")
    branch = None if branch is None else check_branch(branch)
    names = None if types is None else frozenset(_event_type(each) for each in check_several(types, "types"))
    return EventFilter(run_id, branch, check_flag(descendants, "descendants"), names)


def _event_type(event_type: object) -> str:
    name = event_type.__name__ if isinstance(event_type, type) else event_type
    if not isinstance(name, str) or name not in EVENT_TYPES:
        raise InvalidValue("types", name, f"is none of the events {', '.join(EVENT_TYPES)}")
    return name
