"""Fixtures that every test may use, and what makes a run of all of them quick."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine import Engine, open_engine

# The machine that runs the tests may be busy: neither a deadline nor the speed of drawing says anything of the code.
settings.register_profile("anabranch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anabranch")

_SETTINGS = ("ANABRANCH_DB", "COLUMNS", "FORCE_COLOR", "NO_COLOR")
"""What the command line reads of its environment."""

_MEMORY = Path("/dev/shm")
_MEMORY_BYTES_MIN = 2 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Make every run the same wherever it is started, and quick."""
    # A shell has what it runs in the background ignore interrupts, and so would the processes that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in _SETTINGS:
        os.environ.pop(name, None)
    _spare_disk_and_compiler(config)


def _spare_disk_and_compiler(config: pytest.Config) -> None:
    """Keep the many databases in memory, and what the many interpreters compile.

    The slow tests, which prove what a disk has to do with it, stay on the disk.
    """
    if config.option.markexpr == "not slow and not nightly" and _free_bytes(_MEMORY) > _MEMORY_BYTES_MIN:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
        os.environ["TMPDIR"] = tempfile.tempdir = _folder_of_this_run(config, _MEMORY)
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ["PYTHONPYCACHEPREFIX"] = _folder_of_this_run(config)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free if folder.is_dir() else 0


def _folder_of_this_run(config: pytest.Config, inside: Path | None = None) -> str:
    folder = tempfile.mkdtemp(prefix="anabranch-tests-", dir=inside)
    Path(folder).chmod(0o711)  # some tests are users to whom only what they are given is open
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))  # a process that was killed may still write
    return folder


def pytest_collection_finish() -> None:
    """Keep what stays until the end from the garbage collector, for which so many tests call."""
    _freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """And, file by file, what is kept of the tests that have run."""
    if nextitem is not None and nextitem.path != item.path:
        _freeze()


def _freeze() -> None:
    gc.collect()  # what is garbage by now is to be told of
    gc.freeze()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "runs.db"


@pytest.fixture
async def engine(database: Path) -> AsyncIterator[Engine]:
    """An open engine on a fresh file."""
    async with open_engine(database) as opened:
        yield opened
