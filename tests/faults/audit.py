"""An independent check of a database: positions, versions and hashes, from the tables and the documentation alone."""

import sqlite3
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import msgspec

_EVENTS = (
    "SELECT position, run_id, branch, stream_version, event_type, schema_version, event_id, recorded_at, payload,"
    " payload_digest, events.hash FROM events JOIN streams USING (stream_id) ORDER BY position"
)
_LAST_AND_MISSING = (
    "SELECT max(coalesce((SELECT max(position) FROM events), 0), coalesce(max(last_position), 0)),"
    " coalesce(sum(events), 0) FROM deleted_runs"
)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def assert_whole(database: Path) -> Counter[str]:
    """Assert that nothing is missing and every hash is right; return the number of events of each run.

    Stream versions have no gaps, and positions only those of deleted runs. An erased payload leaves its digest.
    """
    heads: dict[tuple[str, str], tuple[int, bytes]] = {}
    runs: Counter[str] = Counter()
    last = 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")  # one snapshot: others may be writing
        for position, run, branch, version, *header, payload, erased, hash_ in connection.execute(_EVENTS):
            last_version, last_hash = heads.get((run, branch), (0, bytes(32)))
            encoded = msgspec.msgpack.encode((run, branch, version, *header))
            assert position > last
            assert version == last_version + 1
            assert hash_ == _digest(last_hash + encoded + (erased or _digest(payload))), f"hash at {position}"
            heads[run, branch], last = (version, hash_), position
            runs[run] += 1
        last, missing = connection.execute(_LAST_AND_MISSING).fetchone()
        assert runs.total() + missing == last
        stored = connection.execute("SELECT run_id, branch, version, hash FROM streams").fetchall()
        assert {(run, branch): (version, hash_) for run, branch, version, hash_ in stored} == heads
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    finally:
        connection.close()
    return runs
