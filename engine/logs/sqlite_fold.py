"""The log as a fold reads it: each event with its stream, which is looked up once instead of joined to every row."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final

from engine.codec import decode_recorded
from engine.errors import EventOutOfPlace
from engine.events import RecordedEvent
from engine.ports import Stream

SELECT_FOLDED: Final = (
    "SELECT position, stream_id, stream_version, event_id, recorded_at, hash, event_type, schema_version, payload"
    " FROM events"
)

_SELECT_STREAM: Final = "SELECT run_id, branch, parent_id, parent_version FROM streams WHERE stream_id = ?"
_STREAMS_KNOWN_MAX: Final = 2000


class FoldedEvents:
    """Makes rows of `SELECT_FOLDED` into what projectors take. The streams' own heads are not read: no fold asks.

    Rows and streams are to be read in one snapshot, or under the writers' lock.
    """

    def __init__(self) -> None:
        self._streams: dict[int, Stream] = {}

    def of(
        self, connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[Stream, RecordedEvent]]:
        """Yield the rows' streams and events.

        Args:
            connection: to look streams up on.

        Raises:
            CannotDecode: naming the type and the position.
            EventOutOfPlace: its stream is lost.
        """
        streams = self._streams
        for position, stream_id, version, event_id, recorded_at, hash_, event_type, schema_version, payload in rows:
            stream = streams.get(stream_id) or self._read(connection, stream_id)
            if stream is None:
                raise EventOutOfPlace(event_type, position, "a branch")
            recorded = decode_recorded(
                position,
                stream.run_id,
                stream.branch,
                version,
                event_id,
                recorded_at,
                hash_,
                event_type,
                schema_version,
                payload,
            )
            yield stream, recorded

    def _read(self, connection: sqlite3.Connection, stream_id: int) -> Stream | None:
        if len(self._streams) >= _STREAMS_KNOWN_MAX:
            self._streams.clear()
        found = connection.execute(_SELECT_STREAM, (stream_id,)).fetchone()
        if found is None:
            return None
        run_id, branch, parent_id, parent_version = found
        stream = self._streams[stream_id] = Stream(stream_id, run_id, branch, parent_id, parent_version, 0, b"")
        return stream
