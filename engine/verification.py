"""Checking a run's history: every hash along its Merkle DAG, every link in it, every reduction. Pure.

The events of a run are handed in one by one in the order of their positions. Of each stream the first bad event is
reported; what follows it in that stream proves nothing, and is not looked at.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from engine.codec import (
    EVENT_TYPES,
    GENESIS_HASH,
    SCHEMA_VERSIONS,
    decode_event,
    encode_canonical,
    link,
    payload_digest,
)
from engine.errors import CannotDecode, MalformedPayload
from engine.events import (
    BranchForked,
    Event,
    ParametersReduced,
    ParametersSet,
    PayloadErased,
    RunCreated,
    RunFinalized,
    RunForked,
    SourceCarriedOver,
)
from engine.findings import Problem, ProblemKind
from engine.model import Head
from engine.names import ROOT
from engine.reduction_check import ParameterIndexes, reduction_problem
from engine.stored import Ledger, StoredEvent, StoredStream


class _Chain(Struct):
    """A stream as far as it was checked.

    `erased` are the versions whose erasure no event has told of yet; `cut_off` that the stream of a forked run has no
    source, and no event has told yet that it was carried over.
    """

    stream: StoredStream
    version: int = 0
    hash: bytes = GENESIS_HASH
    broken: bool = False
    erased: set[int] = field(default_factory=set)
    cut_off: bool = False


class RunCheck:
    """Checks one run. `problems` holds what was found so far, `events` how many events were looked at."""

    def __init__(self, root: StoredStream) -> None:
        self.problems: list[Problem] = []
        self.events = 0
        self._root = root
        self._chains: dict[int, _Chain] = {}
        self._parameters = ParameterIndexes(root.root_id)

    @property
    def streams(self) -> int:
        """How many streams had events."""
        return len(self._chains)

    def heads(self) -> list[Head]:
        """Return the heads as the stored events have them, in the order in which the streams were opened."""
        return [Head(chain.stream.branch, chain.version, chain.hash) for _, chain in sorted(self._chains.items())]

    def check(self, row: StoredEvent, ledger: Ledger) -> None:
        """Check the run's next event."""
        self.events += 1
        chain = self._chains.get(row.stream_id) or self._open(row, ledger)
        if chain is None:
            return
        if not chain.broken:
            self._check_link(chain, row, ledger)
        chain.version, chain.hash = row.stream_version, row.hash

    def finish(self, streams: Iterable[StoredStream]) -> None:
        """Compare where every stream of the run should stand with where it does, after its last event."""
        for stream in streams:
            chain = self._chains.get(stream.stream_id)
            if chain is None:
                self._report("missing event", stream, "it has no events", stream_version=1)
            elif not chain.broken:
                self._check_head(chain, stream)
                self._check_told(chain)

    def _check_told(self, chain: _Chain) -> None:
        if chain.cut_off:
            message = "it has no source, and nothing says that it was carried over"
            self._report("link", chain.stream, message, stream_version=1)
        for version in sorted(chain.erased)[:1]:
            message = "its payload was erased, and nothing says so"
            self._report("payload", chain.stream, message, stream_version=version)

    def _check_head(self, chain: _Chain, stream: StoredStream) -> None:
        if stream.version > chain.version:
            message = f"it stood at version {stream.version}, and its last event is version {chain.version}"
            self._report("missing event", stream, message, stream_version=chain.version + 1)
        elif (stream.version, stream.hash) != (chain.version, chain.hash):
            message = f"its head is not its last event, version {chain.version}"
            self._report("head", stream, message, stream_version=chain.version)
        elif stream.root_id != self._root.root_id:
            self._report("head", stream, "its row belongs to another run")

    def _open(self, row: StoredEvent, ledger: Ledger) -> _Chain | None:
        stream = ledger.stream(row.stream_id)
        if stream is None:
            known = Problem(
                kind="missing stream",
                message=f"the stream {row.stream_id} of this event is not there",
                run_id=self._root.run_id,
                stream_version=row.stream_version,
                position=row.position,
            )
            if not any(each.message == known.message for each in self.problems):
                self.problems.append(known)
            return None
        chain = self._chains[row.stream_id] = _Chain(stream)
        return chain

    def _check_link(self, chain: _Chain, row: StoredEvent, ledger: Ledger) -> None:
        problem = _chain_problem(chain, row)
        if problem is not None:
            kind, message = problem
            if kind == "content" and _follows(chain, row, ledger):
                kind, message = "hash", "its stored hash was changed"
            self._break(chain, row, kind, message)
            return
        if row.payload_digest is not None:
            chain.erased.add(row.stream_version)  # what it said is gone, and its place in the chain is as it was
            return
        try:
            event = _decoded(row)
        except MalformedPayload as error:
            self._break(chain, row, "payload", str(error))
        except CannotDecode:
            pass  # a newer anabranch wrote it: its hash is right, and what it says is not ours to judge
        else:
            self._check_event(chain, row, event, ledger)

    def _check_event(self, chain: _Chain, row: StoredEvent, event: Event, ledger: Ledger) -> None:
        message = self._says_wrong(chain, row, event, ledger)
        if message is not None:
            self._break(chain, row, "link", message)
            return
        if isinstance(event, ParametersReduced) and self._all_whole(chain.stream, event.children, ledger):
            message = reduction_problem(self._parameters, chain.stream, row, event, ledger)
            if message is not None:
                self._break(chain, row, "reduction", message)
        if isinstance(event, ParametersSet | ParametersReduced):
            self._parameters.add(row, event)
        elif isinstance(event, SourceCarriedOver):
            chain.cut_off = False
        elif isinstance(event, PayloadErased):
            self._check_erasure(chain, row, event, ledger)

    def _check_erasure(self, chain: _Chain, row: StoredEvent, event: PayloadErased, ledger: Ledger) -> None:
        erased = ledger.event_of(chain.stream, event.stream_version)
        left = b"" if erased is None or erased.payload is None else payload_digest(erased.payload)
        if erased is None or erased.payload_digest is None:
            self._break(chain, row, "link", f"it says that version {event.stream_version} was erased, and it is there")
        elif left != event.redacted:
            self._break(chain, row, "link", f"what is left of version {event.stream_version} is not what was left")
        chain.erased.discard(event.stream_version)

    def _all_whole(self, parent: StoredStream, heads: Iterable[Head], ledger: Ledger) -> bool:
        """Say whether every stream that a reduction read is whole: else what it made of them proves nothing."""
        streams = (ledger.named(parent.run_id, head.branch) for head in heads)
        chains = (None if stream is None else self._chains.get(stream.stream_id) for stream in streams)
        return all(chain is not None and not chain.broken for chain in chains)

    def _says_wrong(self, chain: _Chain, row: StoredEvent, event: Event, ledger: Ledger) -> str | None:
        stream = chain.stream
        if event.branch != stream.branch:
            return f"it names branch {event.branch!a} and stands in branch {stream.branch!a}"
        opens = RunCreated | RunForked if stream.branch == ROOT else BranchForked
        if isinstance(event, opens) != (row.stream_version == 1):
            return f"{row.event_type} stands at version {row.stream_version}"
        if isinstance(event, RunForked) and stream.parent_id is None:
            chain.cut_off = True
            self._parameters.carried_over(stream.root_id, ledger)
            return None
        return self._linked_wrong(stream, event, ledger)

    def _linked_wrong(self, stream: StoredStream, event: Event, ledger: Ledger) -> str | None:
        match event:
            case BranchForked():
                head = Head(event.parent, event.parent_version, event.parent_hash)
                return self._parent_problem(stream, stream.run_id, head, ledger)
            case RunForked():
                head = Head(event.source_branch, event.source_version, event.source_hash)
                return self._parent_problem(stream, event.source_run_id, head, ledger)
            case ParametersReduced(children=heads) | RunFinalized(heads=heads):
                problems = (self._head_problem(stream.run_id, head, ledger)[1] for head in heads)
                return next((problem for problem in problems if problem is not None), None)
            case _:
                return None

    def _parent_problem(self, stream: StoredStream, run_id: str, head: Head, ledger: Ledger) -> str | None:
        parent, problem = self._head_problem(run_id, head, ledger)
        if problem is None and parent is not None:
            linked = stream.parent_id, stream.parent_version
            if linked != (parent.stream_id, head.stream_version):
                return f"its stream's row has another parent than version {head.stream_version} of {head.branch!a}"
        return problem

    def _head_problem(self, run_id: str, head: Head, ledger: Ledger) -> tuple[StoredStream | None, str | None]:
        """Return the stream that a head names, and what is wrong with it."""
        where = f"branch {head.branch!a} of run {run_id!a}"
        stream = ledger.named(run_id, head.branch)
        if stream is None:
            return None, f"it names {where}, which is not there"
        chain = self._chains.get(stream.stream_id)
        if chain is not None and chain.broken:
            return stream, None  # reported there
        found = chain.hash if chain is not None and chain.version == head.stream_version else None
        if found is None:
            row = ledger.event_of(stream, head.stream_version)
            found = None if row is None else row.hash
        if found is None:
            return stream, f"it names version {head.stream_version} of {where}, which is not there"
        return stream, None if found == head.hash else (
            f"version {head.stream_version} of {where} has another hash than the one that it names"
        )

    def _break(self, chain: _Chain, row: StoredEvent, kind: ProblemKind, message: str) -> None:
        chain.broken = True
        self._report(kind, chain.stream, message, stream_version=row.stream_version, position=row.position)

    def _report(self, kind: ProblemKind, stream: StoredStream, message: str, **where: Any) -> None:
        problem = Problem(kind=kind, message=message, run_id=stream.run_id, branch=stream.branch, **where)
        self.problems.append(problem)


def _chain_problem(chain: _Chain, row: StoredEvent) -> tuple[ProblemKind, str] | None:
    expected = chain.version + 1
    if row.stream_version > expected:
        return "missing event", f"version {expected} is not there: version {row.stream_version} follows {chain.version}"
    if row.stream_version < expected:
        return "order", f"version {row.stream_version} follows version {chain.version}"
    if row.payload is None and row.payload_digest is None:
        return "payload", "its payload is not there, and nothing says that it was erased"
    if _hash(chain, row) == row.hash:
        return None
    return _what_changed(chain, row)


def _hash(chain: _Chain, row: StoredEvent, **header: Any) -> bytes:
    digest = row.payload_digest
    if digest is None:
        assert row.payload is not None, "one of the two is there"
        digest = payload_digest(row.payload)
    fields = {
        "event_type": row.event_type,
        "schema_version": row.schema_version,
        "event_id": row.event_id,
        "recorded_at": row.recorded_at,
        **header,
    }
    stream = chain.stream
    return link(chain.hash, stream.run_id, stream.branch, row.stream_version, digest=digest, **fields)


def _what_changed(chain: _Chain, row: StoredEvent) -> tuple[ProblemKind, str]:
    """Say which part of an event is not what was hashed, as far as that can be told from the outside."""
    for event_type, current in SCHEMA_VERSIONS.items():
        for version in range(1, current + 1):
            if _hash(chain, row, event_type=event_type, schema_version=version) == row.hash:
                return "header", f"it was recorded as {event_type} version {version}, not as {row.event_type}"
    if row.event_type not in EVENT_TYPES or len(row.event_id) != _EVENT_ID_BYTES:
        return "header", "its header is not what was hashed"
    if row.payload is not None and row.payload_digest is None and not _is_canonical(row):
        return "payload", "its payload is not what was hashed"
    return "content", "its payload or its header is not what was hashed"


_EVENT_ID_BYTES = 16


def _is_canonical(row: StoredEvent) -> bool:
    try:
        event = _decoded(row)
    except CannotDecode:
        return False
    return row.schema_version != SCHEMA_VERSIONS[row.event_type] or encode_canonical(event) == row.payload


def _follows(chain: _Chain, row: StoredEvent, ledger: Ledger) -> bool:
    """Say whether the stream's next event was chained to what this event's hash should be."""
    following = ledger.event_of(chain.stream, row.stream_version + 1)
    if following is None or (following.payload is None and following.payload_digest is None):
        return False
    ahead = _Chain(chain.stream, row.stream_version, _hash(chain, row))
    return _hash(ahead, following) == following.hash


def _decoded(row: StoredEvent) -> Event:
    return decode_event(row.event_type, row.schema_version, row.payload or b"", row.position)
