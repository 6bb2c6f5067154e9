"""Two engines of one process on one file, with other processes beside them."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from engine import open_engine

OTHER_PROCESS = """
import asyncio, json, sys
from engine import open_engine

async def main():
    async with open_engine(sys.argv[1]) as engine:
        await engine.create_run(sys.argv[2])
        print(json.dumps([run.run_id for run in await engine.runs()]))

asyncio.run(main())
"""


async def _runs_as_another_process_sees_them(database: Path, creating: str) -> list[str]:
    command = [sys.executable, "-c", OTHER_PROCESS, str(database), creating]
    done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    seen: list[str] = json.loads(done.stdout)
    return seen


async def test_a_second_engine_takes_no_locks_from_the_first(database: Path) -> None:
    """Closing a second engine leaves the first one its locks, although POSIX ends a process's locks on a file when it
    closes any descriptor of the file.
    """
    async with open_engine(database) as first:
        await first.create_run("before")
        async with open_engine(database) as second:
            await second.create_run("second")
        # A process that is the last to close, judging by the kernel's locks, deletes the write-ahead log.
        await _runs_as_another_process_sees_them(database, "other")
        await first.create_run("after")
        seen = await _runs_as_another_process_sees_them(database, "another")
        assert sorted(seen) == ["after", "another", "before", "other", "second"]
        assert [run.run_id for run in await first.runs()] == seen
        assert await first.verify_views() == []


async def test_engines_that_open_a_new_file_at_once_share_it(database: Path) -> None:
    """Engines that open a new file at the same time share it."""
    async with open_engine(database) as one, open_engine(database) as two, open_engine(database) as three:
        await asyncio.gather(*(engine.create_run(f"run {index}") for index, engine in enumerate((one, two, three))))
        seen = await _runs_as_another_process_sees_them(database, "other")
    assert sorted(seen) == ["other", "run 0", "run 1", "run 2"]
