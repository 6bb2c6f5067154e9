"""The time of anabranch's own statements: recorded while the work is done, and run again on another file.

Every row is written as the engine writes it, a batch in one transaction, by one thread, with a future for each write;
nothing is checked, decided, encoded, hashed or folded. What is left is the cost of keeping these rows.
"""

import shutil
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest.mock import patch

from typing_extensions import override

from benchmarks.durability import of_connection
from benchmarks.operations import Values, seconds_of
from benchmarks.peers.anabranch import FILE_NAME, Anabranch
from benchmarks.peers.limit import GroupCommit, connected
from benchmarks.scale import WARM_UP, Scale
from benchmarks.writing import two_sets_of_branches
from engine.logs import forking

REPEATED_FILE_NAME: Final = "repeated.db"

_Statements: TypeAlias = list[tuple[str, list[Any]]]
"""One transaction: each SQL statement, with the rows that it was run with."""


async def repeat(folder: Path, scale: Scale) -> tuple[float, str]:
    """Do the work, then repeat its statements; return how many seconds they took, and the durability of a commit."""
    peer = Anabranch()
    transactions = list[_Statements]()
    with patch.object(forking, "_Connection", _recording(transactions)):
        await peer.create(folder)
        shutil.copyfile(folder / FILE_NAME, folder / REPEATED_FILE_NAME)
        transactions.clear()
        async with peer.open(folder, shared=False) as store:
            warm_up, writers = await two_sets_of_branches(store, scale.branches)
            await seconds_of(warm_up, min(WARM_UP.operations, scale.operations))
            made_ready = len(transactions)
            await seconds_of(writers, scale.operations)
    with connected(folder / REPEATED_FILE_NAME) as connection:
        for statements in transactions[:made_ready]:
            _run(connection, statements)
        seconds = await _seconds(connection, transactions[made_ready:], scale)
        _check_same(connection, folder / FILE_NAME)
        return seconds, of_connection(connection)


def _recording(transactions: list[_Statements]) -> type[sqlite3.Connection]:
    """Return a connection type that records what is written in each transaction."""

    class Recording(forking._Connection):  # noqa: SLF001 - there is no public way to see statements with their values
        @override
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                transactions.append([])
            elif self.in_transaction and sql.startswith(("INSERT", "UPDATE", "DELETE")):
                transactions[-1].append((sql, [parameters]))
            return super().execute(sql, parameters)

        @override
        def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
            rows = list(parameters)
            transactions[-1].append((sql, rows))
            return super().executemany(sql, rows)

    return Recording


class _Repeated:
    """A `benchmarks.operations.BranchWriter` that waits for as many commits as the engine's own branches do."""

    def __init__(self, commits: GroupCommit[None]) -> None:
        self._commits = commits

    async def set_parameters(self, values: Values) -> None:
        """Wait for one commit."""
        del values
        await self._commits.submit(None)

    async def log_step(self, step: str) -> None:
        """Wait for two commits, one after the other."""
        del step
        await self._commits.submit(None)
        await self._commits.submit(None)


async def _seconds(connection: sqlite3.Connection, transactions: Sequence[_Statements], scale: Scale) -> float:
    left = iter(transactions)
    commits = GroupCommit[None](lambda _: _run(connection, next(left, [])))
    began = time.perf_counter()
    try:
        await seconds_of([_Repeated(commits)] * scale.branches, scale.operations)
    finally:
        commits.end()
    for statements in left:  # if the engine happened to make more batches
        _run(connection, statements)
    return time.perf_counter() - began


def _run(connection: sqlite3.Connection, statements: _Statements) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for sql, rows in statements:
        connection.executemany(sql, rows)
    connection.execute("COMMIT")


def _check_same(repeated: sqlite3.Connection, original: Path) -> None:
    """Raise RuntimeError if a table lacks a row that the engine has written."""
    repeated.execute("ATTACH ? AS original", (str(original),))
    for table in ("events", "streams", "parameters", "step_logs", "task_attempts", "branches", "view_checkpoints"):
        ((differing,),) = repeated.execute(
            f"SELECT count(*) FROM (SELECT * FROM original.{table} EXCEPT SELECT * FROM main.{table})"
        )
        if differing:
            raise RuntimeError(f"{differing} rows of {table} were not repeated")
