"""The streams of a SQLite log and their heads, cached between batches."""

import sqlite3
from collections.abc import Collection

from engine.codec import GENESIS_HASH
from engine.errors import RunNotFound
from engine.names import ROOT
from engine.ports import Stream, check_named

_STREAMS_CACHED_MAX = 50_000
# Selects by the row's id, so that the names are read from the row and not from the index.
_BY_NAME = (
    "SELECT stream_id, run_id, branch, parent_id, parent_version, version, hash FROM streams"
    " WHERE stream_id = (SELECT stream_id FROM streams WHERE run_id = ? AND branch = ?)"
)


class CachedHeads:
    """`engine.ports.StreamHeads`: each stream's head, read once and then kept up to date within the batch."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._streams: dict[tuple[str, str], Stream] = {}
        self._by_id: dict[int, Stream] = {}
        self._changed: dict[int, Stream] = {}
        self._next_id: int | None = None

    def find(self, run_id: str, branch: str) -> Stream | None:
        known = self._streams.get((run_id, branch))
        if known is not None:
            return known
        row = self._connection.execute(_BY_NAME, (run_id, branch)).fetchone()
        return None if row is None else self._keep(check_named(Stream(*row), run_id, branch))

    def root_id(self, run_id: str) -> int:
        """Return the stream id of a run's root branch.

        Raises:
            RunNotFound: the run has no root branch, even if it has others.
        """
        root = self.find(run_id, ROOT)
        if root is None:
            raise RunNotFound(run_id)
        return root.stream_id

    def children(self, stream: Stream) -> list[Stream]:
        return self._several("parent_id", stream.stream_id)

    def of_run(self, run_id: str) -> list[Stream]:
        return self._several("run_id", run_id)

    def open(self, run_id: str, branch: str, parent: Stream | None) -> Stream:
        """Insert a stream that has no events yet."""
        stream = Stream(
            stream_id=self._take_id(),
            run_id=run_id,
            branch=branch,
            parent_id=None if parent is None else parent.stream_id,
            parent_version=0 if parent is None else parent.version,
            version=0,
            hash=GENESIS_HASH,
        )
        root_id = stream.stream_id if branch == ROOT else self.root_id(run_id)
        self._connection.execute(
            "INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            (
                stream.stream_id,
                root_id,
                run_id,
                branch,
                stream.parent_id,
                stream.parent_version,
                stream.hash,
            ),
        )
        return self._keep(stream)

    def mark_changed(self, stream: Stream) -> None:
        """Mark the stream's head as changed, to be written by `flush`."""
        self._changed[stream.stream_id] = stream

    def flush(self) -> None:
        self._connection.executemany(
            "UPDATE streams SET version = ?, hash = ? WHERE stream_id = ?",
            [(stream.version, bytearray(stream.hash), stream.stream_id) for stream in self._changed.values()],
        )
        self._changed.clear()

    def trim(self) -> None:
        """Empty a cache that has grown too large. Call it between batches, when all changes are written."""
        if len(self._by_id) > _STREAMS_CACHED_MAX:
            self.forget()

    def forget(self, stream_ids: Collection[int] | None = None) -> None:
        """Drop all streams, including unwritten changes, or between batches just those given."""
        self._next_id = None
        if stream_ids is not None:
            for stream_id in self._by_id.keys() & stream_ids:
                stream = self._by_id.pop(stream_id)
                del self._streams[stream.run_id, stream.branch]
            return
        for remembered in (self._streams, self._by_id, self._changed):
            remembered.clear()

    def _several(self, column: str, value: str | int) -> list[Stream]:
        found = self._connection.execute(
            f"SELECT run_id, branch FROM streams WHERE {column} = ? ORDER BY stream_id", (value,)
        )
        return [stream for run_id, branch in found if (stream := self.find(run_id, branch)) is not None]

    def _keep(self, stream: Stream) -> Stream:
        self._streams[stream.run_id, stream.branch] = self._by_id[stream.stream_id] = stream
        return stream

    def _take_id(self) -> int:
        if self._next_id is None:
            # Ids of deleted runs are not reused: the order of ids is the order in which streams were opened.
            last = self._connection.execute(
                "SELECT max(coalesce((SELECT max(stream_id) FROM streams), 0),"
                " coalesce((SELECT max(last_stream_id) FROM deleted_runs), 0))"
            ).fetchone()[0]
            self._next_id = last + 1
        taken, self._next_id = self._next_id, self._next_id + 1
        return taken
