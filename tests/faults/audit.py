"""An independent check of a database: that of `examples/independent_check.py`, and SQLite's own."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from examples.independent_check import check


def assert_whole(database: Path) -> Counter[str]:
    """Assert that nothing is missing and every hash is right; return the number of events of each run."""
    history = check(database)
    assert history.problems == []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    return Counter({run: history.events_of(run) for run in history.runs})
