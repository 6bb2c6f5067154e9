"""Reading the log for a fold: each event with its stream, which is looked up once instead of joined to every row."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final

from engine.codec import decode_recorded
from engine.errors import EventOutOfPlace
from engine.events import RecordedEvent
from engine.ports import Stream

SELECT_FOLDED: Final = (
    "SELECT position, stream_id, stream_version, recorded_at, hash, event_type, schema_version, payload FROM events"
)

_SELECT_STREAMS: Final = (
    "SELECT stream_id, run_id, branch, parent_id, parent_version FROM streams"
    " WHERE stream_id >= ? ORDER BY stream_id LIMIT ?"
)
_STREAMS_READ_TOGETHER: Final = 64
_STREAMS_CACHED_MAX: Final = 2000
_NO_ID: Final = b""


class FoldedEvents:
    """Converts rows of `SELECT_FOLDED` into the streams and events that projectors take.

    Stream heads and event ids, which no fold uses, are left empty. Rows and streams must be read in one snapshot, or
    under the writers' lock.
    """

    def __init__(self) -> None:
        self._streams: dict[int, Stream] = {}

    def of(
        self, connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[Stream, RecordedEvent]]:
        """Yield the rows' streams and events.

        Args:
            connection: for looking up streams.

        Raises:
            CannotDecode: naming the type and the position.
            EventOutOfPlace: its stream is missing.
        """
        streams = self._streams
        for position, stream_id, version, recorded_at, hash_, event_type, schema_version, payload in rows:
            stream = streams.get(stream_id) or self._read(connection, stream_id)
            if stream is None:
                raise EventOutOfPlace(event_type, position, "a branch")
            recorded = decode_recorded(
                position,
                stream.run_id,
                stream.branch,
                version,
                _NO_ID,
                recorded_at,
                hash_,
                event_type,
                schema_version,
                payload,
            )
            yield stream, recorded

    def _read(self, connection: sqlite3.Connection, stream_id: int) -> Stream | None:
        if len(self._streams) >= _STREAMS_CACHED_MAX:
            self._streams.clear()
        # Read ahead: the streams of a run have neighbouring ids, and its events are often consecutive.
        rows = connection.execute(_SELECT_STREAMS, (stream_id, _STREAMS_READ_TOGETHER))
        for found, run_id, branch, parent_id, parent_version in rows:
            self._streams[found] = Stream(found, run_id, branch, parent_id, parent_version, 0, b"")
        return self._streams.get(stream_id)
