"""The contract of event logs: a request with an idempotency key is recorded once, however often it is retried."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine import NO_STREAM
from engine.commands import DescribeBranch, OpenRun
from engine.errors import EventTooLarge, IdempotencyConflict, VersionConflict
from engine.events import RunCreated
from engine.ports import Answer, EventLog, Recorded
from tests.contract.event_logs import OpenLog, append, append_one, create, fork, put, read, request, setting, values


def events_of(answers: Sequence[Answer]) -> list[object]:
    """Return the events of each answer, or the error where a request was refused."""
    return [answer.events if isinstance(answer, Recorded) else answer for answer in answers]


async def test_a_retry_returns_the_original_result(log: EventLog) -> None:
    """A retry returns the original events and version, marked as a duplicate, and appends nothing."""
    await append(log, create("r"))
    first = await append_one(log, put("r", 1, key="k"))
    again = await append_one(log, put("r", 1, key="k"))
    assert (again.events, again.stream_version, again.duplicate) == (first.events, first.stream_version, True)
    assert not first.duplicate
    assert await log.last_position() == 2


async def test_the_key_is_looked_up_before_the_version(log: EventLog) -> None:
    """A retry succeeds although its expected version no longer holds."""
    await append(log, create("r"))
    first = await append_one(log, put("r", 1, key="k", expected=1))
    await append(log, put("r", 2))
    again = await append_one(log, put("r", 1, key="k", expected=1))
    assert again.events == first.events


async def test_opening_a_run_can_be_retried(log: EventLog) -> None:
    """A retry of opening a run returns the original events although the run exists by then."""
    first = await append_one(log, create("r", key="k", expected=NO_STREAM))
    again = await append_one(log, create("r", key="k", expected=NO_STREAM))
    assert again.events == first.events


async def test_forking_can_be_retried(log: EventLog) -> None:
    """A retry of a fork returns the original events although the branch exists and the parent has moved on."""
    await append(log, create("r"))
    first = await append_one(log, fork("r", "a", key="k"))
    await append(log, put("r", 1))
    assert (await append_one(log, fork("r", "a", key="k"))).events == first.events


async def test_a_retry_after_reopening_returns_the_original_result(open_log: OpenLog, database: Path) -> None:
    """A retry returns the original events and version after the log was closed and reopened."""
    async with open_log(database) as log:
        await append(log, create("r"))
        first = await append_one(log, request("r", setting(1), setting(2), key="k", expected=1))
    async with open_log(database) as log:
        again = await append_one(log, request("r", setting(1), setting(2), key="k", expected=1))
        assert again.events == first.events
        assert again.stream_version == 3


async def test_other_content_under_the_same_key_is_a_conflict(log: EventLog) -> None:
    """Other content under a recorded key raises IdempotencyConflict with run and key; the first result stands."""
    await append(log, create("r"))
    first = await append_one(log, put("r", 1, key="k"))
    with pytest.raises(IdempotencyConflict) as caught:
        await append_one(log, put("r", 2, key="k"))
    assert (caught.value.run_id, caught.value.idempotency_key) == ("r", "k")
    with pytest.raises(IdempotencyConflict):
        await append_one(log, request("r", setting(1), setting(1), key="k"))
    assert (await append_one(log, put("r", 1, key="k"))).events == first.events


@pytest.mark.parametrize("value", [1.0, True, "1", [1]])
async def test_content_is_compared_by_type_too(log: EventLog, value: object) -> None:
    """Values that are equal but of another type, such as 1, 1.0 and True, are other content."""
    await append(log, create("r"), put("r", 1, key="k"))
    with pytest.raises(IdempotencyConflict):
        await append_one(log, put("r", value, key="k"))


async def test_the_order_in_which_a_mapping_was_written_is_no_content(log: EventLog) -> None:
    """The same mapping with its keys in another order is the same content."""
    await append(log, create("r"), put("r", {"a": 1, "b": 2}, key="k"))
    assert (await append_one(log, put("r", {"b": 2, "a": 1}, key="k"))).duplicate


async def test_a_text_that_merely_equals_a_default_is_no_other_content(log: EventLog) -> None:
    """A string that equals a default value but is another object is the same content."""
    await append(log, create("r"))
    status = "".join(["CREA", "TED"])
    from_code = request("r", OpenRun(exist_ok=True), setting(1), key="k")
    await append(log, from_code)
    again = request("r", OpenRun(event=RunCreated(branch="", status=status), exist_ok=True), setting(1), key="k")
    assert (await append_one(log, again)).duplicate


async def test_a_key_belongs_to_its_run(log: EventLog) -> None:
    """Two runs may use the same idempotency key for different requests."""
    await append(log, create("r"), create("q"))
    answers = await append(log, put("r", 1, key="k"), put("q", 2, key="k"))
    assert values(await read(log)) == [1, 2]
    assert not any(isinstance(answer, Recorded) and answer.duplicate for answer in answers)


async def test_the_same_request_twice_in_one_batch(log: EventLog) -> None:
    """A request that occurs twice in a batch is recorded once, and both occurrences get the same events."""
    await append(log, create("r"))
    answers = await append(log, put("r", 1, key="k"), put("r", 2), put("r", 1, key="k"), put("r", 3))
    assert values(await read(log)) == [1, 2, 3]
    assert events_of(answers)[0] == events_of(answers)[2]


async def test_other_content_in_the_same_batch_is_refused_alone(log: EventLog) -> None:
    """Other content under a key used earlier in the batch is refused alone; the other requests are recorded."""
    await append(log, create("r"))
    answers = await log.append([put("r", 1, key="k"), put("r", 2, key="k"), put("r", 3)])
    assert isinstance(answers[1], IdempotencyConflict)
    assert values(await read(log)) == [1, 3]


async def test_in_a_race_of_retries_one_is_recorded(log: EventLog) -> None:
    """Of concurrent appends under one key, one is recorded, and all callers get the same event."""
    await append(log, create("r"))
    answers = await asyncio.gather(*(log.append([put("r", 1, key="k", expected=1)]) for _ in range(20)))
    assert len({answer.events[0].position for (answer,) in answers if isinstance(answer, Recorded)}) == 1
    assert values(await read(log)) == [1]


async def test_a_request_with_nothing_to_say_is_remembered_too(log: EventLog) -> None:
    """The retry of a request that recorded no events records none, even if it would by then."""
    await append(log, create("r"))
    first = await append_one(log, request("r", DescribeBranch(details={}), key="k"))
    await append(log, request("r", DescribeBranch(details={"a": 1})))
    again = await append_one(log, request("r", DescribeBranch(details={}), key="k"))
    assert (first.events, again.events, again.duplicate) == ((), (), True)
    assert await log.last_position() == 2


async def test_a_refused_request_leaves_its_key_free(log: EventLog) -> None:
    """A refused request, rejected at once or half-way, leaves its key free for another."""
    await append(log, create("r"))
    with pytest.raises(VersionConflict):
        await append_one(log, put("r", 1, key="k", expected=9))
    with pytest.raises(EventTooLarge):
        await append_one(log, request("r", setting(1), setting("x" * 6000), key="k"))
    assert not (await append_one(log, put("r", 2, key="k"))).duplicate
    assert values(await read(log)) == [2]


async def test_a_retry_beside_a_request_that_is_refused_half_way(log: EventLog) -> None:
    """Keys are recorded once even when a batch is repeated because one of its requests was refused half-way."""
    await append(log, create("r"))
    broken = request("r", setting(1), setting("x" * 6000))
    answers = await log.append([put("r", 1, key="k"), broken, put("r", 1, key="k"), put("r", 2, key="l")])
    assert [type(answer) for answer in answers] == [Recorded, EventTooLarge, Recorded, Recorded]
    assert values(await read(log)) == [1, 2]


async def test_the_second_log_on_a_store_knows_the_keys_of_the_first(open_log: OpenLog, database: Path) -> None:
    """A retry through a second log on the same store returns the original events."""
    async with open_log(database) as one, open_log(database) as two:
        await append(one, create("r"))
        first = await append_one(one, put("r", 1, key="k"))
        assert (await append_one(two, put("r", 1, key="k"))).events == first.events
