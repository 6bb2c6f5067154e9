"""Checking a run's history: every hash, link and reduction of its Merkle DAG. Pure.

The caller passes the run's events one by one, in order of position. Only the first bad event of each stream is
reported; later events of that stream prove nothing and are not checked. A wrong reduction does not break the chain, so
checks continue: it may be due to a tampered redacted payload, which shows only at the later `PayloadErased`.

The relative order of events that no link connects is not hashed and cannot be checked.
"""

from collections.abc import Iterable

from msgspec import structs

from engine.errors import CannotDecode, MalformedPayload
from engine.events import Event, ParametersReduced, ParametersSet, PayloadErased, RunForked, SourceCarriedOver
from engine.findings import Problem, ProblemKind
from engine.model import Head
from engine.proof.hash_chain import Chain, Erased, chain_problem, decoded
from engine.proof.link_check import LinkCheck
from engine.proof.reduction_check import ParameterIndexes, reduction_problem
from engine.stored import Ledger, StoredEvent, StoredStream


class RunCheck:
    """Checks one run. `problems` holds the problems found so far, `events` the number of events checked."""

    def __init__(self, root: StoredStream, broken: dict[int, int] | None = None) -> None:
        """Begin with a run's root stream.

        Args:
            broken: the first bad version by stream id, of runs checked before; this run's are added.
        """
        self.problems: list[Problem] = []
        self.events = 0
        self._root = structs.replace(root, root_id=root.stream_id)
        self._broken: dict[int, int] = {} if broken is None else broken
        self._chains: dict[int, Chain] = {}
        self._by_branch: dict[str, Chain] = {}
        self._reported: dict[int, Problem] = {}
        self._misplaced: set[int] = set()
        self._links = LinkCheck(self._by_branch, self._broken)
        self._parameters = ParameterIndexes(root.stream_id, self._broken)

    @property
    def streams(self) -> int:
        """The number of streams with events."""
        return len(self._chains)

    def heads(self) -> list[Head]:
        """Return the heads according to the stored events, in the order in which the streams were opened."""
        return [Head(chain.stream.branch, chain.version, chain.hash) for _, chain in sorted(self._chains.items())]

    def check(self, row: StoredEvent, ledger: Ledger) -> None:
        """Check the run's next event."""
        self.events += 1
        chain = self._chains.get(row.stream_id) or self._open_chain(row, ledger)
        if chain is None:
            return
        if not chain.broken:
            self._check_event(chain, row, ledger)
        chain.version, chain.hash = row.stream_version, row.hash

    def mark_unreadable(self, streams: Iterable[StoredStream]) -> None:
        """Note, instead of `finish`, that the events after the last checked one of each stream cannot be read."""
        for stream in streams:
            chain = self._chains.get(stream.stream_id)
            self._broken.setdefault(stream.stream_id, 1 if chain is None else chain.version + 1)

    def finish(self, streams: Iterable[StoredStream]) -> None:
        """Check, after the last event, the stored head of every stream of the run against its events."""
        for stream in streams:
            chain = self._chains.get(stream.stream_id)
            if chain is None:
                self._report("missing event", stream, "the stream has no events", stream_version=1)
                continue
            if not chain.broken:
                self._check_head(chain, stream)
                self._check_recorded(chain)
            if stream.root_id != self._root.root_id:
                self._report("head", stream, "the stream's row assigns it to another run")

    def _check_recorded(self, chain: Chain) -> None:
        if chain.lacks_source:
            message = "its source is missing, and no event records that it was carried over"
            self._report("link", chain.stream, message, stream_version=1)
        for version, erased in sorted(chain.erased.items())[:1]:
            message = "its payload was erased, and no event records the erasure"
            self._report("payload", chain.stream, message, stream_version=version, position=erased.position)

    def _check_head(self, chain: Chain, stream: StoredStream) -> None:
        if stream.version > chain.version:
            message = f"the stream's head is version {stream.version}, but its last event is version {chain.version}"
            self._report("missing event", stream, message, stream_version=chain.version + 1)
        elif (stream.version, stream.hash) != (chain.version, chain.hash):
            message = f"the stream's head does not match its last event, version {chain.version}"
            self._report("head", stream, message, stream_version=chain.version)

    def _open_chain(self, row: StoredEvent, ledger: Ledger) -> Chain | None:
        stream = ledger.stream(row.stream_id)
        if stream is None:
            self._report_misplaced("missing stream", row, f"the stream {row.stream_id} of this event is missing")
            return None
        if stream.run_id != self._root.run_id and stream.root_id != self._root.root_id:
            self._report_misplaced(
                "order", row, f"its row names this run, but its stream belongs to run {stream.run_id!r}"
            )
            return None
        chain = Chain(structs.replace(stream, root_id=self._root.root_id))
        self._chains[row.stream_id] = self._by_branch[stream.branch] = chain
        return chain

    def _report_misplaced(self, kind: ProblemKind, row: StoredEvent, message: str) -> None:
        if row.stream_id in self._misplaced:
            return
        self._misplaced.add(row.stream_id)
        self.problems.append(
            Problem(
                kind=kind,
                message=message,
                run_id=self._root.run_id,
                stream_version=row.stream_version,
                position=row.position,
            )
        )

    def _check_event(self, chain: Chain, row: StoredEvent, ledger: Ledger) -> None:
        problem = chain_problem(chain, row, ledger)
        if problem is not None:
            self._break(chain, row, *problem)
            return
        if row.payload_digest is not None:
            chain.erased[row.stream_version] = Erased.of(row)
            if row.payload is None:
                self._parameters.mark_unknown(row)
                return
        try:
            event = decoded(row)
        except MalformedPayload as error:
            self._break(chain, row, "payload", str(error))
        except CannotDecode:  # written by a newer version: its hash matches, its content cannot be checked
            self._parameters.mark_unknown(row)
        else:
            self._check_content(chain, row, event, ledger)

    def _check_content(self, chain: Chain, row: StoredEvent, event: Event, ledger: Ledger) -> None:
        message = self._links.problem(chain.stream, row, event, ledger)
        if message is not None:
            self._break(chain, row, "link", message)
            return
        stream = chain.stream
        if (
            isinstance(event, ParametersReduced)
            and row.payload_digest is None
            and self._is_intact(stream, event.children)
        ):
            message = reduction_problem(self._parameters, stream, row, event, ledger)
            if message is not None:
                self._report("reduction", stream, message, stream_version=row.stream_version, position=row.position)
        if isinstance(event, ParametersSet | ParametersReduced):
            self._parameters.add(row, event)
        elif isinstance(event, RunForked) and stream.parent_id is None:
            chain.lacks_source = True
            self._parameters.carried_over(stream.root_id, ledger)
        elif isinstance(event, SourceCarriedOver):
            chain.lacks_source = False
        elif isinstance(event, PayloadErased):
            self._check_erasure(chain, row, event, ledger)

    def _check_erasure(self, chain: Chain, row: StoredEvent, event: PayloadErased, ledger: Ledger) -> None:
        version = event.stream_version
        erased = chain.erased.pop(version, None)
        if erased is None:  # it may have been erased after it was checked
            known = ledger.event_of(chain.stream, version) if version < row.stream_version else None
            if known is None:
                self._break(chain, row, "link", f"it records the erasure of version {version}, which is missing")
            elif known.payload_digest is None:
                message = f"version {row.stream_version} records its erasure, but its payload is present"
                self._break_at(chain, version, known.position, message)
        elif (erased.redacted_digest, erased.event_type) != (event.redacted, event.event_type):
            message = f"its redacted payload is not the one that version {row.stream_version} records"
            self._break_at(chain, version, erased.position, message)

    def _is_intact(self, parent: StoredStream, children: Iterable[Head]) -> bool:
        """Whether no stream that a reduction read has a problem, without which the reduction cannot be checked."""
        read = {parent.stream_id, *(self._by_branch[head.branch].stream.stream_id for head in children)}
        return self._reported.keys().isdisjoint(read)

    def _break(self, chain: Chain, row: StoredEvent, kind: ProblemKind, message: str) -> None:
        chain.broken = True
        self._broken.setdefault(chain.stream.stream_id, chain.version + 1)
        version = chain.version + 1 if kind == "missing event" else row.stream_version
        self._report(kind, chain.stream, message, stream_version=version, position=row.position)

    def _break_at(self, chain: Chain, version: int, position: int, message: str) -> None:
        chain.broken = True
        self._report("payload", chain.stream, message, stream_version=version, position=position)

    def _report(
        self,
        kind: ProblemKind,
        stream: StoredStream,
        message: str,
        *,
        stream_version: int | None = None,
        position: int | None = None,
    ) -> None:
        """Report a problem of a stream, unless an earlier one of the stream is known."""
        before = self._reported.get(stream.stream_id)
        if before is not None:
            if stream_version is None or (before.stream_version or 0) <= stream_version:
                return
            self.problems.remove(before)
        problem = Problem(
            kind=kind,
            message=message,
            run_id=stream.run_id,
            branch=stream.branch,
            stream_version=stream_version,
            position=position,
        )
        self._reported[stream.stream_id] = problem
        self.problems.append(problem)
        if stream_version is not None and kind != "head":
            known = self._broken.get(stream.stream_id, stream_version)
            self._broken[stream.stream_id] = min(stream_version, known)
