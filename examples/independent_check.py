"""Checks the history in a store without anabranch's code, as docs/format.md describes it.

    python examples/independent_check.py runs.db [checkpoint.json]

It needs Python and msgspec, for MessagePack. It recomputes the hash of every event and follows every link between
branches and runs. With a checkpoint, as `anabranch checkpoint` prints it, it also proves that everything the store held
then is still there. It exits with 1 if it finds a problem. Unlike `anabranch verify`, it does not repeat reductions,
holds the hash of every event in memory, and checks no signature.
"""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import msgpack

EVENTS = """
SELECT position, run_id, branch, stream_version, event_type, schema_version, event_id, recorded_at,
    payload, payload_digest, events.hash
FROM events LEFT JOIN streams USING (stream_id) ORDER BY position
"""
RUNS = """
SELECT root_id, run_id, 0, 0, NULL, 0, NULL FROM streams WHERE branch = ''
UNION ALL
SELECT root_id, run_id, first_position, last_position, leaf, deleted_at, reason FROM deleted_runs ORDER BY root_id
"""
MISFILED = """
SELECT position, root.run_id FROM events JOIN streams USING (stream_id)
LEFT JOIN streams AS root ON root.stream_id = events.root_id
WHERE (root.run_id, root.branch, streams.root_id) IS NOT (streams.run_id, '', events.root_id)
"""

Stream: TypeAlias = list[tuple[int, bytes]]
"""The position and the hash of each event, by version."""


@dataclass
class History:
    """What a store holds, and what is wrong with it.

    `runs` has the streams by run and branch; `erased` has, by run, branch and version, the digest of what is left of an
    erased payload, and `erasures` those that an event has recorded; `deleted` are the ids of deleted runs.
    """

    deleted: set[str]
    runs: dict[str, dict[str, Stream]] = field(default_factory=dict)
    erased: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    erasures: set[tuple[str, str, int]] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def stream(self, run: str, branch: str) -> Stream:
        return self.runs.get(run, {}).get(branch, [])

    def has(self, run: str, branch: str, version: int, hash_: bytes) -> bool:
        """Return whether an event is there with that hash, or its run was deleted."""
        stream = self.stream(run, branch)
        return (0 < version <= len(stream) and stream[version - 1][1] == hash_) or run in self.deleted

    def events_of(self, run: str) -> int:
        return sum(map(len, self.runs[run].values()))


def check(database: Path, checkpoint: dict[str, Any] | None = None) -> History:
    """Read a store in one snapshot, and check it."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as store:
        store.text_factory = lambda text: text.decode(errors="replace")
        store.execute("BEGIN")
        history = History({run for (run,) in store.execute("SELECT run_id FROM deleted_runs")})
        for row in store.execute(EVENTS):
            where = "position {}, run {!r}, branch {!r}, version {}".format(*row)
            history.problems += [f"{where}: {problem}" for problem in check_event(history, row)]
        history.problems += check_rows(history, store)
        if checkpoint is not None:
            history.problems += check_since(history, store, checkpoint)
    return history


def check_event(history: History, row: tuple[Any, ...]) -> Iterator[str]:
    """Add the next event to the history, and yield what is wrong with it."""
    position, run, branch, version, *header, payload, erased_digest, hash_ = row
    stream = history.runs.setdefault(run, {}).setdefault(branch, [])
    last_version, previous = len(stream), stream[-1][1] if stream else bytes(32)
    stream.append((position, hash_))
    if erased_digest is not None:
        history.erased[run, branch, version] = b"" if payload is None else digested(payload)
    digest = erased_digest or digested(payload or b"")
    if position < 1:
        yield "positions begin with 1"
    if version != last_version + 1:
        yield f"it follows version {last_version}"
    elif digested(previous + msgpack.encode((run, branch, version, *header)) + digest) != hash_:
        yield "it does not match its hash"
    elif payload is not None:
        try:
            yield from check_content(history, run, branch, header[0], msgpack.decode(payload))
        except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:  # in what is left of an erased one
            yield f"its payload is damaged: {error!r}"


def check_content(history: History, run: str, branch: str, event_type: str, event: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what an event says of other events."""
    for named in links(run, event_type, event):
        if not history.has(*named):
            yield "it names version {2} of run {0!r}, branch {1!r}, which is missing or has another hash".format(*named)
    if event_type == "PayloadErased":
        erasure = run, branch, event["stream_version"]
        history.erasures.add(erasure)
        if history.erased.get(erasure) != event.get("redacted", b""):
            yield f"it records what is left of version {erasure[2]}, which is something else"


def links(run: str, event_type: str, event: dict[str, Any]) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield the run, branch, version and hash of each event that an event is linked to."""
    match event_type:
        case "BranchForked":
            yield run, event["parent"], event["parent_version"], event["parent_hash"]
        case "RunForked":
            yield event["source_run_id"], event["source_branch"], event["source_version"], event["source_hash"]
        case "ParametersReduced" | "RunFinalized":
            for head in event["children" if event_type == "ParametersReduced" else "heads"]:
                yield run, head["branch"], head["stream_version"], head["hash"]
        case _:
            pass


def check_rows(history: History, store: sqlite3.Connection) -> Iterator[str]:
    """Yield what the stored heads, the erasures, the runs and the number of events say that the events do not."""
    for run, branch, version, hash_ in store.execute("SELECT run_id, branch, version, hash FROM streams"):
        stream = history.stream(run, branch)
        if not stream or (version, hash_) != (len(stream), stream[-1][1]):
            yield f"run {run!r}, branch {branch!r}: its head is not its last event, version {len(stream)}"
    for run, branch, version in history.erased.keys() - history.erasures:
        yield f"run {run!r}, branch {branch!r}, version {version}: it was erased, and no event records the erasure"
    for position, run in store.execute(MISFILED):
        yield f"position {position}: it is filed under run {run!r}"
    present = sum(map(history.events_of, history.runs))
    (deleted, last) = store.execute("SELECT coalesce(sum(events), 0), max(last_position) FROM deleted_runs").fetchone()
    last = max([last or 0, *(stream[-1][0] for run in history.runs.values() for stream in run.values())])
    if present + deleted != last:
        yield f"{present} events, {deleted} more of deleted runs, and the last position is {last}"


def check_since(history: History, store: sqlite3.Connection, checkpoint: dict[str, Any]) -> Iterator[str]:
    """Yield how the store differs from a checkpoint: from its root, over the runs as of its position."""
    (store_id,) = store.execute("SELECT value FROM store WHERE key = 'store_id'").fetchone()
    if store_id != checkpoint["store_id"]:
        yield f"the checkpoint is of store {checkpoint['store_id']}, and this is {store_id}"
    position, deletions = checkpoint["position"], checkpoint["deletions"]
    times = [at for (at,) in store.execute("SELECT deleted_at FROM deleted_runs ORDER BY deleted_at")]
    covered_until = times[deletions - 1] if 0 < deletions <= len(times) else -1
    leaves, lost = [], False
    for _, run, first_position, last_position, leaf, deleted_at, reason in store.execute(RUNS):
        if leaf is None:
            heads = list(heads_at(history.runs.get(run, {}), position))
            leaves += [leaf_of(run, heads)] if heads else []
        elif first_position <= position and deleted_at <= covered_until:
            leaves.append(leaf_of("deleted", run, leaf, deleted_at, reason))
        elif first_position <= position:
            yield f"run {run!r} was deleted since the checkpoint: {reason}"
            leaves.append(leaf)
            lost = lost or last_position > position  # it went on, and `leaf` is of its end
    if len(leaves) != checkpoint["runs"] or (root_of(leaves).hex() != checkpoint["root"] and not lost):
        yield f"the history up to position {position} is not the one that the checkpoint commits to"


def heads_at(streams: dict[str, Stream], position: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield the branch, the version and the hash of each stream as of a position, if it was open then."""
    for branch, stream in streams.items():
        until = [hash_ for at, hash_ in stream if at <= position]
        if until:
            yield branch, len(until), until[-1]


def leaf_of(*content: Any) -> bytes:
    return sha256(b"\0" + msgpack.encode(content)).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """Return the root of the Merkle tree over hashed leaves (RFC 6962, section 2.1)."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256().digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1  # the largest power of two below their number
    return sha256(b"\1" + root_of(leaves[:left]) + root_of(leaves[left:])).digest()


def digested(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def main(database: str, checkpoint: str | None = None) -> int:
    kept = None if checkpoint is None else json.loads(Path(checkpoint).read_text(encoding="utf-8"))
    history = check(Path(database), kept)
    for problem in history.problems:
        print(problem)
    events = sum(map(history.events_of, history.runs))
    print(f"runs: {len(history.runs)}, events: {events}, problems: {len(history.problems)}")
    return 1 if history.problems else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
