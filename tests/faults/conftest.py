"""Fixtures of the fault tests: C libraries that child processes preload."""

from pathlib import Path

import pytest

from tests.faults.preload import CheckpointWatch, compiled, loading


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that can be killed at a change to its files."""
    return loading(compiled("kill_at", tmp_path_factory.mktemp("kill_at")))


@pytest.fixture(scope="session")
def unlocked_writes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that counts changes to a database's own file, by threads that hold the write lock and by others."""
    return compiled("unlocked_writes", tmp_path_factory.mktemp("unlocked_writes"))


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records all changes to the files of a folder, and makes chosen ones fail."""
    return compiled("recorder", tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def watch(unlocked_writes: Path, database: Path) -> CheckpointWatch:
    """Counts the checkpoints of the database, with the lock and without."""
    return CheckpointWatch(unlocked_writes, database)
