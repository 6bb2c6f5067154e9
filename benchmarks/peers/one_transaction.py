"""Limit (b): all rows of the work in one `executemany` and one transaction, without awaiting single writes."""

import time
from pathlib import Path
from typing import Final

from benchmarks.durability import of_connection
from benchmarks.operations import PAIR, branch_names, compare
from benchmarks.peers.limit import FILE_NAME, connected, count_operations
from benchmarks.peers.sample_rows import SampleRows, record_sample_rows
from benchmarks.results import Measured
from benchmarks.scale import Scale

NAME: Final = "limit (b): one transaction"


async def write_in_one_transaction(folder: Path, scale: Scale) -> Measured:
    """Write the rows of all branches of the work, and return the measurement."""
    rows = await record_sample_rows(folder)
    placed = _all_rows(rows, scale)
    with connected(folder / FILE_NAME) as connection:
        connection.execute(rows.create_table)
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(rows.insert, placed)
        connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        found = count_operations(connection, rows)
        missing, wrong = compare(found, branch_names(scale.branches), scale.operations)
        return Measured(
            figures={"operations_per_s": scale.branches * scale.operations / seconds},
            durability=f"{of_connection(connection)}, once",
            missing=missing,
            errors=dict(wrong),
        )


def _all_rows(rows: SampleRows, scale: Scale) -> list[list[object]]:
    pair = rows.pair
    return [
        rows.placed(row, stream_id, turn * len(pair) + place)
        for turn in range(scale.operations // PAIR)
        for stream_id in range(scale.branches)
        for place, row in enumerate(pair, start=1)
    ]
