"""A run's configuration: its own, over what its sources had where it was forked from them."""

import sqlite3
from typing import Any

from engine.names import ROOT
from engine.ports import Stream
from projections.columns import from_json
from projections.own_parameters import LATEST
from projections.past import OF_CONFIGURATION, past_of_stream_alone
from projections.reading import lineage
from projections.streams import stream_of


def configuration(connection: sqlite3.Connection, root: Stream) -> dict[str, Any]:
    """Return a run's configuration as it is."""
    return inherited_configuration(connection, root) | _own(connection, root)


def inherited_configuration(connection: sqlite3.Connection, root: Stream) -> dict[str, Any]:
    """Return what a run was configured with, key by key, before it was there: by the runs that it was forked from."""
    found: dict[str, Any] = {}
    _, *above = lineage(connection, root.stream_id, LATEST)
    for stream_id, version in above:
        source = stream_of(connection, stream_id)
        if source.branch == ROOT:
            found = _own_at(connection, source, version) | found
    return found


def _own_at(connection: sqlite3.Connection, root: Stream, version: int) -> dict[str, Any]:
    if not _own(connection, root):  # nothing is ever taken out of it: then it never had any
        return {}
    with past_of_stream_alone(connection, root, version, OF_CONFIGURATION) as then:
        return _own(then, root)


def _own(connection: sqlite3.Connection, root: Stream) -> dict[str, Any]:
    (config,) = connection.execute("SELECT config FROM runs WHERE run_id = ?", (root.run_id,)).fetchone()
    own: dict[str, Any] = from_json(config)
    return own
