"""What tests of backups have in common: a store to copy, and a look at what is left where the copy was to be."""

import errno
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from engine import Engine, open_engine

EVENTS, RUNS = 24, 3


async def record_store(database: Path) -> None:
    """Record a few runs, in each a fork, a reduction and an attempt."""
    async with open_engine(database, durability="relaxed") as engine:
        for number in range(RUNS):
            run = await engine.create_run(f"r{number}", parameters={"text": "x" * 3000})
            async with run.attempt("train", operator_key="local"):
                child = await run.fork("fit")
                await child.set_parameters({"loss": number})
            await run.reduce()


@asynccontextmanager
async def opened_copy(store: Path, database: Path) -> AsyncIterator[Engine]:
    """Open a copy of a store that nobody has open."""
    shutil.copyfile(store, database)
    async with open_engine(database) as engine:
        yield engine


def left_in(target: Path) -> list[str]:
    """Return the names in the folder of a backup."""
    return sorted(path.name for path in target.parent.iterdir())


def refuse_links(path: Path, _: Path) -> None:
    """`Path.hardlink_to` of a file system that has no links."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
