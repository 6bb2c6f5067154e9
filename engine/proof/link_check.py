"""The links of a run's events, each of which names the head of another stream. Pure.

A head is that of when the link was recorded, so a link also fixes the order of the two streams.
"""

from collections.abc import Mapping

from engine.events import BranchForked, Event, ParametersReduced, RunCreated, RunFinalized, RunForked
from engine.model import Head
from engine.names import ROOT
from engine.proof.hash_chain import Chain
from engine.stored import Ledger, StoredEvent, StoredStream


class LinkCheck:
    """Checks the links of one run, in order of position.

    Args:
        chains: the run's streams by branch, up to the event to check.
        broken: the first bad version by stream id, of this run and those checked before.
    """

    def __init__(self, chains: Mapping[str, Chain], broken: Mapping[int, int]) -> None:
        self._chains = chains
        self._broken = broken
        self._finalized: set[str] = set()

    def problem(self, stream: StoredStream, row: StoredEvent, event: Event, ledger: Ledger) -> str | None:
        """Return why a stream's next event cannot be there, or which of its links is wrong, or None."""
        return _place_problem(stream, row, event) or self._link_problem(stream, row, event, ledger)

    def _link_problem(self, stream: StoredStream, row: StoredEvent, event: Event, ledger: Ledger) -> str | None:
        match event:
            case RunCreated():
                return _parent_row_problem(stream, None, 0)
            case RunForked():
                return self._source_problem(stream, row, event, ledger)
            case BranchForked():
                return self._fork_problem(stream, event)
            case ParametersReduced():
                return self._children_problem(stream, event)
            case RunFinalized():
                return self._finalized_problem(event)
            case _:
                return None

    def _fork_problem(self, stream: StoredStream, event: BranchForked) -> str | None:
        problem = self._head_problem(Head(event.parent, event.parent_version, event.parent_hash))
        return problem or _parent_row_problem(stream, self._chains[event.parent].stream, event.parent_version)

    def _source_problem(self, stream: StoredStream, row: StoredEvent, event: RunForked, ledger: Ledger) -> str | None:
        if stream.parent_id is None:  # the source was deleted; a `SourceCarriedOver` has to follow
            return _parent_row_problem(stream, None, 0)
        version = event.source_version
        where = f"branch {event.source_branch!r} of run {event.source_run_id!r}"
        source = ledger.named(event.source_run_id, event.source_branch)
        if source is None:
            return f"it names {where}, which is missing"
        if self._broken.get(source.stream_id, version + 1) > version:  # else it is reported there
            found = ledger.event_of(source, version)
            if found is None or found.position > row.position:
                return f"it names version {version} of {where}, which is missing"
            if found.hash != event.source_hash:
                return f"it names version {version} of {where} with another hash than the recorded one"
        return _parent_row_problem(stream, source, version)

    def _children_problem(self, stream: StoredStream, event: ParametersReduced) -> str | None:
        names = [head.branch for head in event.children]
        if len(set(names)) != len(names):
            return "it names a child twice"
        for head in event.children:
            problem = self._head_problem(head)
            if problem is not None:
                return problem
            child = self._chains[head.branch]
            if child.stream.parent_id != stream.stream_id and not child.broken:
                return f"it names branch {head.branch!r}, which was not forked from this one"
        return None

    def _finalized_problem(self, event: RunFinalized) -> str | None:
        for head in event.heads:
            problem = self._head_problem(head)
            if problem is not None:
                return problem
        if event.part == 1:
            self._finalized = set()
        self._finalized.update(head.branch for head in event.heads)
        left_out = self._chains.keys() - self._finalized
        if event.part >= event.parts and left_out:
            return f"it leaves out branch {min(left_out)!r}"
        return None

    def _head_problem(self, head: Head) -> str | None:
        """Return why a linked head of this run is wrong, or None: it has to be the stream's head at this point."""
        where = f"branch {head.branch!r}"
        chain = self._chains.get(head.branch)
        if chain is None:
            return f"it names {where}, which is missing"
        if chain.broken:
            return None  # reported there
        if chain.version != head.stream_version:
            return f"it names version {head.stream_version} of {where}, whose head was version {chain.version}"
        if chain.hash != head.hash:
            return f"it names version {head.stream_version} of {where} with another hash than the recorded one"
        return None


def _place_problem(stream: StoredStream, row: StoredEvent, event: Event) -> str | None:
    if event.branch != stream.branch:
        return f"it names branch {event.branch!r}, but is in branch {stream.branch!r}"
    opens = RunCreated | RunForked if stream.branch == ROOT else BranchForked
    if isinstance(event, opens) != (row.stream_version == 1):
        return f"an event of type {row.event_type} cannot be version {row.stream_version}"
    return None


def _parent_row_problem(stream: StoredStream, parent: StoredStream | None, version: int) -> str | None:
    if (stream.parent_id, stream.parent_version) == (None if parent is None else parent.stream_id, version):
        return None
    if parent is None:
        return "its stream's row has a parent, but the event names none"
    return f"its stream's row has another parent than version {version} of branch {parent.branch!r}"
