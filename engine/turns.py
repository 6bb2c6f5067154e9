"""Long computations on the event loop, in pieces, between which other tasks get their turns."""

import asyncio
from collections.abc import Iterable
from typing import Final, TypeVar

Item = TypeVar("Item")

ITEMS_PER_TURN: Final = 256  # a few milliseconds for documents and commands; fewer items never wait


async def listed(items: Iterable[Item]) -> list[Item]:
    """Return items that are made one by one as a list, letting other tasks run now and then."""
    made: list[Item] = []
    for item in items:
        made.append(item)
        if len(made) % ITEMS_PER_TURN == 0:
            await asyncio.sleep(0)
    return made
