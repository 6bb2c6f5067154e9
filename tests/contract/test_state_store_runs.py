"""Runs in the state store, tested on the async store and its blocking twin."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunExists, RunNotFound
from engine.stores import RunHandle, RunMetadata
from tests.contract.state_stores import BEGUN, TWINS, handle, last_position, metadata, opened


@pytest.fixture(params=TWINS)
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Any]:
    async with opened(request.param, database) as twin:
        yield twin


async def test_a_run_comes_back_as_it_was_given(store: Any) -> None:
    """A run's handle and metadata are read back as given."""
    await store.create_run(handle(), metadata())
    assert await store.get_run("r") == RunHandle(run_id="r", workspace_slug="lab", root_path=Path("/data/r"))
    given = RunMetadata(created_at=BEGUN, status="PENDING", tags={"team": "x"}, description="first")
    assert await store.get_run_metadata("r") == given


async def test_a_run_without_metadata_begins_now_as_created(store: Any) -> None:
    """A run without metadata is created now, with status CREATED."""
    before = datetime.now(UTC)
    await store.create_run(handle())
    found = await store.get_run_metadata("r")
    assert before - timedelta(milliseconds=1) <= found.created_at <= datetime.now(UTC)
    assert (found.status, found.tags, found.description) == ("CREATED", {}, None)


async def test_a_naive_time_of_creation_is_utc(store: Any) -> None:
    """A naive creation time is taken as UTC."""
    await store.create_run(handle(), metadata(created_at=datetime(2026, 1, 2, 3, 4, 5)))  # noqa: DTZ001 - the case
    assert (await store.get_run_metadata("r")).created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_a_time_of_another_zone_is_the_same_moment(store: Any) -> None:
    """An aware creation time is read back as the same moment in UTC."""
    there = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-7)))
    await store.create_run(handle(), metadata(created_at=there))
    found = (await store.get_run_metadata("r")).created_at
    assert (found, found.tzinfo) == (there, UTC)


async def test_a_run_is_created_once(store: Any) -> None:
    """Creating a run under a taken run id raises RunExists and records nothing."""
    await store.create_run(handle(), metadata())
    with pytest.raises(RunExists, match="'r'"):
        await store.create_run(handle(workspace_slug="other"), metadata(status="RUNNING"))
    assert (await store.get_run("r")).workspace_slug == "lab"
    assert await last_position(store) == 1


async def test_an_unknown_run_is_none(store: Any) -> None:
    """Reading an unknown run returns None."""
    for read in (store.get_run, store.get_run_metadata, store.get_run_status, store.get_run_status_reason):
        assert await read("unknown") is None


async def test_a_status_is_set_with_its_reason(store: Any) -> None:
    """`set_run_status` sets the status and its reason."""
    await store.create_run(handle())
    assert (await store.get_run_status("r"), await store.get_run_status_reason("r")) == ("CREATED", None)
    await store.set_run_status("r", "FAILED", reason="no space")
    assert (await store.get_run_status("r"), await store.get_run_status_reason("r")) == ("FAILED", "no space")
    assert (await store.get_run_metadata("r")).status == "FAILED"


async def test_a_status_without_a_reason_keeps_the_last_one(store: Any) -> None:
    """`set_run_status` without a reason keeps the last reason."""
    await store.create_run(handle())
    await store.set_run_status("r", "PAUSED", "quota")
    await store.set_run_status("r", "RUNNING")
    assert (await store.get_run_status("r"), await store.get_run_status_reason("r")) == ("RUNNING", "quota")
    await store.set_run_status("r", "RUNNING", "again")
    assert await store.get_run_status_reason("r") == "again"


async def test_the_same_status_again_records_nothing(store: Any) -> None:
    """Setting the same status again, with the same reason or none, records nothing."""
    await store.create_run(handle())
    await store.set_run_status("r", "FAILED", "why")
    before = await last_position(store)
    await store.set_run_status("r", "FAILED", "why")
    await store.set_run_status("r", "FAILED")
    assert await last_position(store) == before


async def test_the_status_of_an_unknown_run_cannot_be_set(store: Any) -> None:
    """Setting the status of an unknown run raises RunNotFound, a ValueError that carries the run id."""
    with pytest.raises(RunNotFound, match="'unknown'") as caught:
        await store.set_run_status("unknown", "FAILED")
    assert isinstance(caught.value, ValueError)
    assert caught.value.run_id == "unknown"


async def test_runs_are_apart(store: Any) -> None:
    """Setting the status of one run does not change another run."""
    await store.create_run(handle("r"), metadata())
    await store.create_run(handle("s", root_path=None, workspace_slug=None), metadata(description=None))
    await store.set_run_status("s", "RUNNING", "why")
    assert (await store.get_run_status("r"), await store.get_run_status_reason("r")) == ("PENDING", None)
    assert await store.get_run("s") == RunHandle(run_id="s", workspace_slug=None, root_path=None)


async def test_a_run_is_still_there_when_the_file_is_opened_again(database: Path) -> None:
    """The blocking twin reads what the async store wrote to the file before."""
    async with opened("async", database) as store:
        await store.create_run(handle(), metadata())
    async with opened("blocking", database) as store:
        assert (await store.get_run_metadata("r")).created_at == BEGUN
