"""A run's configuration: its own, merged over what it inherits from its sources as of the forks."""

import sqlite3
from typing import Any

from engine.names import ROOT
from engine.ports import Stream
from projections.columns import from_json
from projections.own_parameters import LATEST
from projections.past import CONFIGURATION_EVENTS, past_of_stream
from projections.reading import lineage
from projections.streams import stream_of


def configuration(connection: sqlite3.Connection, root: Stream) -> dict[str, Any]:
    """Return a run's current configuration."""
    return inherited_configuration(connection, root) | _own(connection, root)


def inherited_configuration(connection: sqlite3.Connection, root: Stream) -> dict[str, Any]:
    """Return the configuration that a run inherits from the runs that it was forked from, merged key by key."""
    found: dict[str, Any] = {}
    _, *above = lineage(connection, root.stream_id, LATEST)
    for stream_id, version in above:
        source = stream_of(connection, stream_id)
        if source.branch == ROOT:
            found = _own_at(connection, source, version) | found
    return found


def _own_at(connection: sqlite3.Connection, root: Stream, version: int) -> dict[str, Any]:
    if not _own(connection, root):  # keys are never removed: if there are none now, there were none
        return {}
    with past_of_stream(connection, root, version, CONFIGURATION_EVENTS) as then:
        return _own(then, root)


def _own(connection: sqlite3.Connection, root: Stream) -> dict[str, Any]:
    (config,) = connection.execute("SELECT config FROM runs WHERE run_id = ?", (root.run_id,)).fetchone()
    own: dict[str, Any] = from_json(config)
    return own
