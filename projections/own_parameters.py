"""The parameters that streams set or reduced themselves: read by SQL, and the latest ones written here cached.

A branch may have set a name thousands of times. The lookup skips from name to name along the primary key and takes the
last version of each, so that the thousandth reduction reads no more than the first.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias

from engine.model import Parameter
from engine.ports import OwnParameter
from projections.columns import from_json

LATEST = 2**63 - 1
"""A version beyond that of any stream."""

ParameterRow: TypeAlias = tuple[int, str, int, int, str, str, int]
"""A row of `parameters`: stream id, name, stream version, position, kind, the value as JSON, whether it was copied."""

_FEW_NAMES = 4
_CACHED_ROWS_MAX = 4_000
_CACHED_CHARACTERS_MAX = 8 * 1024 * 1024

# A loose index scan: SQLite uses its own skip-scan only after ANALYZE.
_OWN = """
WITH RECURSIVE named (stream_id, name) AS (
    SELECT asked.value, (SELECT min(name) FROM parameters WHERE stream_id = asked.value)
    FROM json_each(:stream_ids) AS asked
    UNION ALL
    SELECT stream_id, (SELECT min(name) FROM parameters WHERE stream_id = named.stream_id AND name > named.name)
    FROM named WHERE name IS NOT NULL
)
SELECT own.stream_id, own.name, own.kind, own.value, own.stream_version, own.copied
FROM named JOIN parameters AS own ON own.stream_id = named.stream_id AND own.name = named.name
    AND own.stream_version = (
        SELECT max(stream_version) FROM parameters
        WHERE stream_id = named.stream_id AND name = named.name AND stream_version <= :version
    )
ORDER BY own.stream_id, own.name
"""

_OF_NAMES = """
SELECT own.name, own.kind, own.value, own.stream_version, own.copied
FROM json_each(:names) AS asked CROSS JOIN parameters AS own ON own.stream_id = :stream_id AND own.name = asked.value
    AND own.stream_version = (
        SELECT max(stream_version) FROM parameters
        WHERE stream_id = :stream_id AND name = asked.value AND stream_version <= :version
    )
ORDER BY asked.key
"""

_NAMES_UP_TO = """
WITH RECURSIVE named (name) AS (
    SELECT min(name) FROM parameters WHERE stream_id = :stream_id
    UNION ALL
    SELECT (SELECT min(name) FROM parameters WHERE stream_id = :stream_id AND name > named.name)
    FROM named WHERE name IS NOT NULL LIMIT :limit
)
SELECT count(name) FROM named
"""


def own_parameters(
    connection: sqlite3.Connection,
    stream_id: int,
    version: int = LATEST,
    names: Collection[str] | None = None,
) -> dict[str, OwnParameter]:
    """Return the parameters that a stream itself set or reduced up to a version, by name and in name order.

    The time is proportional to the number of names in the stream or in `names`, whichever is smaller.
    """
    if names is not None and _has_as_many(connection, stream_id, len(names)):
        asked = {"names": json.dumps(sorted(names)), "stream_id": stream_id, "version": version}
        return _own(connection.execute(_OF_NAMES, asked))
    rows = connection.execute(_OWN, {"stream_ids": json.dumps([stream_id]), "version": version})
    return _own(columns for _, *columns in rows if names is None or columns[0] in names)


def _has_as_many(connection: sqlite3.Connection, stream_id: int, names: int) -> bool:
    if names <= _FEW_NAMES:  # looking them up is faster than counting
        return True
    (found,) = connection.execute(_NAMES_UP_TO, {"stream_id": stream_id, "limit": names}).fetchone()
    return bool(found == names)


def own_parameters_of(connection: sqlite3.Connection, stream_ids: Sequence[int]) -> list[dict[str, OwnParameter]]:
    """Return the parameters that each of the streams itself set or reduced, by name and in name order."""
    owns: dict[int, dict[str, OwnParameter]] = {stream_id: {} for stream_id in stream_ids}
    rows = connection.execute(_OWN, {"stream_ids": json.dumps(list(owns)), "version": LATEST}).fetchall()
    for stream_id, name, kind, value, version, copied in rows:
        owns[stream_id][name] = OwnParameter(Parameter(from_json(value), kind), version, bool(copied))
    return [owns[stream_id] for stream_id in stream_ids]


def _own(rows: Iterable[Any]) -> dict[str, OwnParameter]:
    return {
        name: OwnParameter(Parameter(from_json(value), kind), version, bool(copied))
        for name, kind, value, version, copied in rows
    }


def _columns(row: ParameterRow) -> tuple[str, Any, str, int, int]:
    _, name, version, _, kind, value, copied = row
    return name, kind, value, version, copied


class LatestRows:
    """A cache of the latest rows of `parameters`, for streams that this process has opened.

    It serves the common reduction, over branches that the same process has forked and written to.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._streams: dict[int, dict[str, ParameterRow]] = {}
        self._rows = 0
        self._characters = 0

    def opened(self, stream_id: int) -> None:
        """Register a new stream, whose rows will all be put here."""
        self._streams[stream_id] = {}

    def put(self, rows: Iterable[ParameterRow]) -> None:
        """Add rows that were written, in their order."""
        for row in rows:
            known = self._streams.get(row[0])
            if known is None:
                continue
            before = known.get(row[1])
            if before is None:
                self._rows += 1
            else:
                self._characters -= len(before[5])
            self._characters += len(row[5])
            known[row[1]] = row

    def own_parameters_of(self, stream_ids: Sequence[int]) -> list[dict[str, OwnParameter]]:
        """Do as the function of that name; all rows have to be written."""
        unknown = [stream_id for stream_id in stream_ids if stream_id not in self._streams]
        found = dict(zip(unknown, own_parameters_of(self._connection, unknown), strict=True)) if unknown else {}
        for stream_id in self._streams.keys() & stream_ids:
            found[stream_id] = _own(_columns(row) for _, row in sorted(self._streams[stream_id].items()))
        return [found[stream_id] for stream_id in stream_ids]

    def own_of(self, stream_id: int, names: Collection[str]) -> dict[str, OwnParameter]:
        """Do as `own_parameters` with `names`; all rows have to be written."""
        known = self._streams.get(stream_id)
        if known is None:
            return own_parameters(self._connection, stream_id, names=names)
        return _own(_columns(known[name]) for name in sorted(names) if name in known)

    def trim(self) -> None:
        """Empty the cache if it exceeds its limits."""
        if self._rows + len(self._streams) > _CACHED_ROWS_MAX or self._characters > _CACHED_CHARACTERS_MAX:
            self.forget()

    def forget(self, stream_ids: Collection[int] | None = None) -> None:
        """Drop some streams, or all."""
        if stream_ids is None:
            self._streams.clear()
            self._rows = self._characters = 0
            return
        for stream_id in self._streams.keys() & stream_ids:
            rows = self._streams.pop(stream_id)
            self._rows -= len(rows)
            self._characters -= sum(len(row[5]) for row in rows.values())
