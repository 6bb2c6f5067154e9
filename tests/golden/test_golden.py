"""Today's code reads old logs: events of every type and schema version, and a whole database."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec import NODEFAULT, structs

from engine import Engine, open_engine
from engine.codec import EVENT_TYPES, SCHEMA_VERSIONS, decode_event, encode_canonical
from tests.golden.make_database import RUNS, as_json, compiled, create
from tests.golden.samples import SAMPLES, chained, golden_events, missing, plainly

GOLDEN = golden_events()
DATABASE = Path(__file__).with_name("runs_v1.db")


def name_of(golden: dict[str, Any]) -> str:
    return f"{golden['type']}-{golden['version']}"


@pytest.mark.parametrize("golden", GOLDEN, ids=name_of)
def test_every_golden_event_decodes_to_what_it_said(golden: dict[str, Any]) -> None:
    """Golden payloads of every version decode to the recorded fields; fields added since have their defaults."""
    event = decode_event(golden["type"], golden["version"], bytes.fromhex(golden["payload"]))
    assert type(event) is EVENT_TYPES[golden["type"]]
    found = plainly(event)
    assert {name: found[name] for name in golden["event"]} == golden["event"]
    added = found.keys() - golden["event"].keys()
    defaults = {field.name: field for field in structs.fields(event)}
    assert {name: found[name] for name in added} == {name: _default(defaults[name]) for name in added}


def _default(field: structs.FieldInfo) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


@pytest.mark.parametrize(
    "golden", [each for each in GOLDEN if SCHEMA_VERSIONS[each["type"]] == each["version"]], ids=name_of
)
def test_events_of_todays_version_encode_to_the_same_bytes(golden: dict[str, Any]) -> None:
    """Golden events of today's version encode to the same bytes."""
    payload = bytes.fromhex(golden["payload"])
    assert encode_canonical(decode_event(golden["type"], golden["version"], payload)) == payload


@pytest.mark.parametrize("golden", GOLDEN, ids=name_of)
def test_hashes_are_what_they_were(golden: dict[str, Any]) -> None:
    """The hash of a golden event is the recorded one."""
    payload = bytes.fromhex(golden["payload"])
    found = chained(golden["type"], golden["version"], golden["event"]["branch"], payload)
    assert found == golden["hash"]


def test_every_type_has_golden_samples_at_every_version() -> None:
    """The golden file has samples of every event type at every schema version."""
    every = {(name, version) for name, current in SCHEMA_VERSIONS.items() for version in range(1, current + 1)}
    assert {(golden["type"], golden["version"]) for golden in GOLDEN} == every
    assert missing() == []


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_samples_leave_no_field_at_its_default(event_type: str) -> None:
    """The samples of an event type together give every optional field more than one value."""
    samples = [each for each in SAMPLES if type(each).__name__ == event_type]
    assert len(samples) > 1
    optional = [field.name for field in structs.fields(samples[0]) if not field.required]
    written = {name: {encode_canonical(getattr(sample, name)) for sample in samples} for name in optional}
    assert [name for name, values in written.items() if len(values) == 1] == []


@pytest.fixture
def copied(database: Path) -> Path:
    """A copy of the golden database, so that the original stays unchanged."""
    shutil.copyfile(DATABASE, database)
    return database


@pytest.fixture
def expected() -> str:
    return DATABASE.with_suffix(".json").read_text(encoding="utf-8")


async def test_the_golden_database_opens_and_compiles_to_the_same(copied: Path, expected: str) -> None:
    """The golden database compiles to the JSON that was stored when it was made."""
    async with open_engine(copied) as engine:
        assert as_json(await compiled(engine)) == expected


async def test_its_views_are_true_and_can_be_rebuilt(copied: Path, expected: str) -> None:
    """The views of the golden database are correct, and a rebuild leaves the compiled runs unchanged."""
    async with open_engine(copied) as engine:
        assert await engine.verify_views() == []
        await engine.rebuild()
        assert as_json(await compiled(engine)) == expected


async def test_it_can_be_written_on(copied: Path) -> None:
    """A run of the golden database can be written to, and its idempotency keys are still known."""
    async with open_engine(copied) as engine:
        last = await engine.last_position()
        run = await engine.run("nightly")
        recorded = await run.set_parameters({"lr": 1})
        assert recorded.events[0].position == last + 1
        await create(engine)
        assert await engine.last_position() == last + 1
        assert await engine.verify_views() == []


async def test_every_run_of_it_has_its_events(copied: Path) -> None:
    """Every event of the golden database can be read, and every run has events."""
    async with open_engine(copied) as engine:
        assert await _runs_with_events(engine) == set(RUNS)


async def _runs_with_events(engine: Engine) -> set[str]:
    return {recorded.run_id async for recorded in engine.events()}
