"""Has a peer do the logical work in one process or several, measures it, and checks what the peer has stored."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Final

from msgspec import Struct, structs

from benchmarks.isolation import in_fresh_processes, meet
from benchmarks.operations import PAIR, BranchWriter, Operation, branch_names, compare, operations_of_a_branch
from benchmarks.peers.registry import entry, load
from benchmarks.ports import Peer, Store
from benchmarks.results import Measured, latencies_ms
from benchmarks.scale import WARM_UP, Scale

STORE_FOLDER: Final = "store"

_BLOCK_BYTES: Final = 4096
_SQLITE_SUFFIXES: Final = (".db", ".sqlite")


class Share(Struct, frozen=True):
    """What one process did: start and end, on the clock that processes share, latencies in seconds, and errors."""

    began_ns: int
    ended_ns: int
    latencies_s: list[float]
    errors: dict[str, int]


class Kept(Struct, frozen=True):
    """What the store holds after the work."""

    durability: str
    missing: int
    wrong: dict[str, int]
    bytes_on_disk: int


def write(participant: str, folder: Path, scale: Scale, processes: int = 1) -> Measured:
    """Have a peer do the work, the branches divided among the processes, and return the measurement."""
    scale = _shortened(scale, entry(participant).shortened)
    if processes == 1:
        parts = [_process(participant, folder, scale, 0, 1)]
    else:
        parts = in_fresh_processes(
            _process, [(participant, folder, scale, number, processes) for number in range(processes)]
        )
    shares = [share for share, _ in parts]
    kept = next(kept for _, kept in parts if kept is not None)
    return _measured(shares, kept, scale)


async def two_sets_of_branches(store: Store, count: int) -> list[list[BranchWriter]]:
    """Return `count` branches to warm up with, and as many to measure."""
    return [[await store.branch(name) for name in branch_names(count, first=first)] for first in (count, 0)]


def _measured(shares: Sequence[Share], kept: Kept, scale: Scale) -> Measured:
    operations = scale.branches * scale.operations
    latencies = [latency for share in shares for latency in share.latencies_s]
    seconds = (max(share.ended_ns for share in shares) - min(share.began_ns for share in shares)) / 1e9
    rates = [len(share.latencies_s) / (share.ended_ns - share.began_ns) * 1e9 for share in shares]
    errors = Counter(kept.wrong)
    for share in shares:
        errors.update(share.errors)
    return Measured(
        figures={
            "operations_per_s": operations / seconds,
            **latencies_ms(latencies),
            "slowest_to_fastest_ratio": min(rates) / max(rates),
            "operations_of_a_branch": scale.operations,
            "bytes_on_disk": kept.bytes_on_disk,
            "bytes_per_operation": kept.bytes_on_disk / operations,
        },
        durability=kept.durability,
        missing=kept.missing,
        errors=dict(errors),
    )


def _shortened(scale: Scale, shortened: int) -> Scale:
    return structs.replace(scale, operations=max(PAIR, scale.operations // shortened // PAIR * PAIR))


def _process(participant: str, folder: Path, scale: Scale, number: int, processes: int) -> tuple[Share, Kept | None]:
    return asyncio.run(_take_part(load(participant), folder, scale, number=number, processes=processes))


async def _take_part(
    peer: Peer, folder: Path, scale: Scale, *, number: int, processes: int
) -> tuple[Share, Kept | None]:
    await _warm_up(peer, folder / f"warm-up-{number}", scale)
    store_folder = folder / STORE_FOLDER
    if number == 0:
        store_folder.mkdir()
        await peer.create(store_folder)
    meet()
    each = scale.branches // processes
    async with peer.open(store_folder, shared=processes > 1) as store:
        share = await _write_share(store, branch_names(each, first=each * number), scale.operations)
    meet()
    kept = None if number else await _look(peer, store_folder, scale)
    return share, kept


async def _warm_up(peer: Peer, folder: Path, scale: Scale) -> None:
    """Do a little of the work in another store, so that what happens once in a process is not measured."""
    folder.mkdir()
    await peer.create(folder)
    async with peer.open(folder, shared=False) as store:
        operations = min(WARM_UP.operations, scale.operations)
        await _write_share(store, branch_names(min(WARM_UP.branches, scale.branches)), operations, together=False)


async def _write_share(store: Store, branches: Sequence[str], operations: int, *, together: bool = True) -> Share:
    writers = [await store.branch(name) for name in branches]
    script = operations_of_a_branch(operations)
    errors: Counter[str] = Counter()
    if together:
        meet()
    began_ns = time.monotonic_ns()
    latencies = await asyncio.gather(*(_perform(writer, script, errors) for writer in writers))
    ended_ns = time.monotonic_ns()
    return Share(began_ns, ended_ns, [latency for each in latencies for latency in each], dict(errors))


async def _perform(writer: BranchWriter, script: Sequence[Operation], errors: Counter[str]) -> list[float]:
    latencies = []
    for operation in script:
        began = time.perf_counter()
        try:
            await operation.by(writer)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is a result: it is counted and shown
            errors[f"{type(error).__name__}: {error}"] += 1
        latencies.append(time.perf_counter() - began)
    return latencies


async def _look(peer: Peer, folder: Path, scale: Scale) -> Kept:
    async with peer.open(folder, shared=False) as store:
        durability = await store.durability()
        found = await store.found()
    missing, wrong = compare(found, branch_names(scale.branches), scale.operations)
    return Kept(durability, missing, dict(wrong), _bytes_on_disk(folder))


def _bytes_on_disk(folder: Path) -> int:
    """Return the size of a closed store's files, in whole blocks, after a checkpoint of every write-ahead log."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in _SQLITE_SUFFIXES:
            with closing(connect(path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(-(-path.stat().st_size // _BLOCK_BYTES) * _BLOCK_BYTES for path in files if path.exists())
