"""W3: folding what many children have set into their parent, durably.

anabranch reduces; with other peers a user must read every child's values, fold them, and write the result to the
parent.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.operations import ROOT, BranchWriter, Values, branch_names, folded, values_at
from benchmarks.peers.registry import LIMIT, PEERS, PLAIN, load
from benchmarks.ports import ReadableStore, ReducingStore
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work

Fold: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]

CHILD_BY_CHILD: Final = f"{PLAIN}, child by child"

_TURNS: Final = 3
"""How often the children set their values and are folded; the first turn is the warm-up."""

_FIRST_CHILD_OF: Final = 10_000
"""Each number of children has its own children, which are numbered from a multiple of this on."""


def figure(children: int) -> str:
    """Return the name of the figure for that many children."""
    return f"reduce_{children}_ms"


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Fold few and many children."""
    return asyncio.run(_measure(participant, folder, scale))


async def _measure(participant: str, folder: Path, scale: Scale) -> Measured:
    peer = load(PLAIN if participant == CHILD_BY_CHILD else participant)
    await peer.create(folder)
    async with peer.open(folder, shared=False) as store:
        assert isinstance(store, ReadableStore), "the limit cannot read parameters"
        fold = await _way_to_fold(store, child_by_child=participant == CHILD_BY_CHILD)
        figures = {}
        for place, count in enumerate(scale.children):
            names = branch_names(count, first=place * _FIRST_CHILD_OF)
            writers = [await store.branch(name) for name in names]
            seconds = [await _turn(store, fold, names, writers, turn) for turn in range(_TURNS)]
            figures[figure(count)] = statistics.median(seconds[1:]) * 1000
        return Measured(figures=figures, durability=await store.durability())


async def _way_to_fold(store: ReadableStore, *, child_by_child: bool) -> Fold:
    if isinstance(store, ReducingStore):
        return store.reduce
    root = await store.branch(ROOT)

    async def one_by_one(names: Sequence[str]) -> list[Values]:
        return [values for name in names for values in await store.latest([name])]

    read = one_by_one if child_by_child else store.latest

    async def by_hand(names: Sequence[str]) -> None:
        await root.set_parameters(folded(await read(names)))

    return by_hand


async def _turn(
    store: ReadableStore, fold: Fold, names: Sequence[str], writers: Sequence[BranchWriter], turn: int
) -> float:
    values = [values_at(turn * len(names) + number) for number in range(len(names))]
    await asyncio.gather(*(writer.set_parameters(each) for writer, each in zip(writers, values, strict=True)))
    began = time.perf_counter()
    await fold(names)
    seconds = time.perf_counter() - began
    _check((await store.latest([ROOT]))[0], folded(values))
    return seconds


def _check(found: Values, due: Values) -> None:
    if dict(found) != dict(due):
        raise ValueError(f"the parent has {found} instead of {due}")


WORK: Final = Work(
    name="W3",
    title="reducing children into their parent",
    participants=lambda _: (*(peer.name for peer in PEERS if peer.name != LIMIT), CHILD_BY_CHILD),
    columns=lambda scale: tuple(Column(figure(count), f"{count:,} children: ms", 2) for count in scale.children),
    measure=measure,
)
