"""Fixtures that every test may use, and the set-up that keeps a full test run fast."""

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

# The machine that runs the tests may be busy, so neither a deadline nor slow data generation indicates a fault.
settings.register_profile("anabranch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anabranch")

_SETTINGS = ("ANABRANCH_DB", "COLUMNS", "FORCE_COLOR", "NO_COLOR")
"""The environment variables that the command line reads."""

_MEMORY = Path("/dev/shm")
_MEMORY_BYTES_MIN = 2 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Make every test run independent of where it is started, and fast."""
    # A shell makes its background processes ignore SIGINT, and the processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in _SETTINGS:
        os.environ.pop(name, None)
    _spare_disk_and_compiler(config)


def _spare_disk_and_compiler(config: pytest.Config) -> None:
    """Keep the test databases in memory, and let the interpreters that tests start share their bytecode.

    The slow tests stay on the disk, because they test what depends on a disk.
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
    Path(folder).chmod(0o711)  # some tests act as another user, who must reach the files inside
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))  # a process that was killed may still write
    return folder


def pytest_collection_finish() -> None:
    """Exclude the collected tests, which live until the end, from garbage collection; many tests call `gc.collect`."""
    _freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After each file, exclude what pytest keeps of the finished tests from garbage collection."""
    if nextitem is not None and nextitem.path != item.path:
        _freeze()


def _freeze() -> None:
    gc.collect()  # so that unclosed resources are reported before the rest is frozen
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
