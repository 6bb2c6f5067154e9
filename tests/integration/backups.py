"""What the backup tests share: a store to copy, and a listing of what a backup leaves in its folder."""

import errno
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from engine import Engine, open_engine

EVENTS, RUNS = 24, 3


async def record_store(database: Path) -> None:
    """Record three runs, each with a fork, a reduction and an attempt."""
    async with open_engine(database, durability="relaxed") as engine:
        for number in range(RUNS):
            run = await engine.create_run(f"r{number}", parameters={"text": "x" * 3000})
            async with run.attempt("train", operator_key="local"):
                child = await run.fork("fit")
                await child.set_parameters({"loss": number})
            await run.reduce()


@asynccontextmanager
async def opened_copy(store: Path, database: Path) -> AsyncIterator[Engine]:
    """Copy a closed store and open the copy."""
    shutil.copyfile(store, database)
    async with open_engine(database) as engine:
        yield engine


def left_in(target: Path) -> list[str]:
    """Return the sorted names of the entries in the backup's folder."""
    return sorted(path.name for path in target.parent.iterdir())


def refuse_links(path: Path, _: Path) -> None:
    """Replace `Path.hardlink_to` as on a file system without hard links."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
