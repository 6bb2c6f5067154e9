"""The contract of event logs: order, expected versions, refusals and reads."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import ANY, NO_STREAM, STREAM_EXISTS
from engine.commands import DescribeBranch, Fork, OpenRun, Record, Request
from engine.errors import (
    BranchExists,
    BranchNotFound,
    EngineClosed,
    EventTooLarge,
    RunExists,
    RunNotFound,
    VersionConflict,
)
from engine.events import BranchForked, ParametersSet, RunCreated, RunForked
from engine.expected_version import ExpectedVersion
from engine.model import Parameter
from engine.ports import Answer, EventFilter, EventLog, Recorded
from tests.contract.event_logs import (
    OpenLog,
    append,
    append_one,
    create,
    fork,
    put,
    read,
    request,
    setting,
    values,
)


def errors(answers: Sequence[Answer]) -> list[type[Exception] | None]:
    """Return the class of each refusal, and None where the request was recorded."""
    return [type(answer) if isinstance(answer, Exception) else None for answer in answers]


class TestOrder:
    async def test_an_empty_log_ends_at_position_0(self, log: EventLog) -> None:
        """An empty log has no events and its last position is 0."""
        assert await log.last_position() == 0
        assert await log.read(EventFilter(), 0, None, 10) == ([], 0)

    async def test_positions_and_stream_versions_have_no_gaps(self, log: EventLog) -> None:
        """Stream versions are 1, 2, 3 … without gaps; so are the positions of a log whose order is dense."""
        await append(log, create("r"), create("q"), fork("r", "a"), fork("r", "b"))
        await append(log, *(put(run, 1, branch) for run, branch in [("r", "a"), ("q", ""), ("r", ""), ("r", "a")]))
        found = await read(log)
        positions = [each.position for each in found]
        assert positions == sorted(set(positions))
        if log.capabilities.dense_order:
            assert positions == list(range(1, 9))
        for stream in {(each.run_id, each.branch) for each in found}:
            versions = [each.stream_version for each in found if (each.run_id, each.branch) == stream]
            assert versions == list(range(1, len(versions) + 1))

    async def test_requests_of_a_batch_are_recorded_in_their_order(self, log: EventLog) -> None:
        """The requests of a batch are recorded in the order given."""
        await append(log, create("r"), *(put("r", value) for value in range(100)))
        assert values(await read(log)) == list(range(100))

    async def test_what_is_answered_is_what_is_read(self, log: EventLog) -> None:
        """The recorded events in the answers equal those read from the log."""
        answers = await append(log, create("r"), request("r", setting(1), setting(2)), fork("r", "a"))
        answered = [event for answer in answers if isinstance(answer, Recorded) for event in answer.events]
        assert answered == await read(log)
        assert [answer.stream_version for answer in answers if isinstance(answer, Recorded)] == [1, 3, 1]

    async def test_the_envelope_is_whole(self, log: EventLog) -> None:
        """A recorded event has a unique id, an aware recorded time in UTC, and a hash of 32 bytes."""
        before = datetime.now(UTC)
        await append(log, create("r"), put("r", 1))
        found = await read(log)
        assert len({each.event_id for each in found}) == len({each.hash for each in found}) == 2
        assert all(len(each.event_id) == 32 and len(each.hash) == 32 for each in found)
        assert all(before <= each.recorded_at <= datetime.now(UTC) for each in found)
        assert all(each.recorded_at.tzinfo is UTC for each in found)

    async def test_a_request_with_nothing_new_to_say_records_nothing(self, log: EventLog) -> None:
        """A request that changes nothing is answered with no events and the current version."""
        await append(log, create("r"))
        answer = await append_one(log, request("r", DescribeBranch(details={})))
        assert answer == Recorded((), 1)
        assert await log.last_position() == 1

    async def test_a_big_batch_is_recorded_whole(self, log: EventLog) -> None:
        """A batch of as many requests as the log allows, across several branches, is recorded whole and in order."""
        count = log.capabilities.batch_requests_max
        await append(log, create("r"), fork("r", "a"), fork("r", "b"))
        await append(log, *(put("r", value, ("", "a", "b")[value % 3]) for value in range(count)))
        found = await read(log, after=3, limit=count + 1)
        assert values(found) == list(range(count))
        assert [each.position for each in found] == list(range(4, count + 4))

    async def test_an_empty_batch_is_nothing(self, log: EventLog) -> None:
        """An empty batch gets no answers."""
        assert list(await log.append([])) == []

    async def test_callbacks_are_called_after_an_append(self, log: EventLog) -> None:
        """The callbacks registered by `on_append` are called after an append."""
        called: list[int] = []
        log.on_append(lambda: called.append(1))
        await append(log, create("r"))
        assert called


class TestExpectedVersion:
    @pytest.mark.parametrize(
        ("expected", "holds"),
        [(ANY, True), (STREAM_EXISTS, True), (2, True), (NO_STREAM, False), (0, False), (1, False), (3, False)],
    )
    async def test_of_a_stream_that_exists(self, log: EventLog, expected: ExpectedVersion, holds: bool) -> None:  # noqa: FBT001 - a column of the table
        """A stream at version 2 accepts 2, ANY and STREAM_EXISTS; a conflict carries expected and actual version."""
        await append(log, create("r"), put("r", 1))
        (answer,) = await log.append([put("r", 2, expected=expected)])
        assert isinstance(answer, Recorded) is holds
        if isinstance(answer, VersionConflict):
            assert (answer.run_id, answer.branch, answer.expected, answer.actual) == ("r", "", expected, 2)
        assert await log.last_position() == (3 if holds else 2)

    @pytest.mark.parametrize(
        ("expected", "holds"), [(ANY, True), (NO_STREAM, True), (0, True), (STREAM_EXISTS, False), (1, False)]
    )
    async def test_of_a_stream_that_does_not_exist(
        self,
        log: EventLog,
        expected: ExpectedVersion,
        holds: bool,  # noqa: FBT001 - a column of the table
    ) -> None:
        """A stream that does not exist counts as version 0 and accepts 0, ANY and NO_STREAM."""
        (answer,) = await log.append([create("r", expected=expected)])
        assert isinstance(answer, Recorded) is holds
        assert holds or (isinstance(answer, VersionConflict) and answer.actual == 0)

    async def test_each_stream_is_guarded_by_itself(self, log: EventLog) -> None:
        """An append to one branch does not change the version that another branch expects."""
        await append(log, create("r"), fork("r", "a"), fork("r", "b"), put("r", 1, "a"), put("r", 1))
        await append(log, put("r", 2, "b", expected=1), put("r", 2, "a", expected=2), put("r", 2, expected=2))

    async def test_the_version_before_the_whole_request_is_what_counts(self, log: EventLog) -> None:
        """The expected version of a request with several commands is checked once, before the first command."""
        await append(log, create("r"))
        answer = await append_one(log, request("r", setting(1), setting(2), expected=1))
        assert answer.stream_version == 3

    @pytest.mark.parametrize("batches", [1, 20], ids=["in one batch", "in as many batches"])
    @pytest.mark.parametrize(
        ("make", "winners"),
        [
            (lambda value: put("r", value, expected=1), 1),
            (lambda _: create("new", expected=NO_STREAM), 1),
            (lambda _: create("new", expected=0), 1),
            (lambda _: create("new"), 1),
            (lambda _: fork("r", "a", expected=NO_STREAM), 1),
            (lambda _: fork("r", "a"), 1),
            (lambda value: put("r", value, expected=STREAM_EXISTS), 20),
            (lambda value: put("r", value), 20),
            (lambda value: put("r", value, expected=NO_STREAM), 0),
            (lambda value: put("r", value, expected=2), 0),
        ],
        ids=["number", "no stream", "zero", "run", "no branch", "branch", "exists", "any", "no stream, late", "ahead"],
    )
    async def test_in_a_race_as_many_win_as_the_expectation_allows(
        self, log: EventLog, make: Any, winners: int, batches: int
    ) -> None:
        """Of concurrent requests with the same expectation, exactly as many are recorded as it allows."""
        await append(log, create("r"))
        racing: list[Request] = [make(value) for value in range(20)]
        size = len(racing) // batches
        chunks = [racing[start : start + size] for start in range(0, len(racing), size)]
        answers = [answer for chunk in await asyncio.gather(*map(log.append, chunks)) for answer in chunk]
        assert sum(isinstance(answer, Recorded) for answer in answers) == winners
        assert await log.last_position() == 1 + winners
        losers = {type(answer) for answer in answers if isinstance(answer, Exception)}
        assert losers <= {VersionConflict, RunExists, BranchExists}


TOO_LARGE = "x" * 6000


class TestRefusals:
    @pytest.mark.parametrize(
        ("refused", "error"),
        [
            (create("r"), RunExists),
            (fork("r", "a"), BranchExists),
            (fork("r", "b", parent="nobody"), BranchNotFound),
            (put("nobody", 1), RunNotFound),
            (put("r", 1, "nobody"), BranchNotFound),
            (put("r", 1, expected=7), VersionConflict),
            (put("r", TOO_LARGE), EventTooLarge),
            (request("r", setting("half"), setting(TOO_LARGE)), EventTooLarge),
            (request("r", setting("half"), Fork(branch="a", parent="")), BranchExists),
            (request("r", Fork(branch="new", parent=""), setting("half", "new"), OpenRun()), RunExists),
            (request("new", OpenRun(), setting("half"), setting(1, "nobody")), BranchNotFound),
            (request("new", OpenRun(parameters={"x": Parameter(TOO_LARGE)})), EventTooLarge),
        ],
    )
    async def test_a_refused_request_is_refused_alone(
        self, log: EventLog, refused: Request, error: type[Exception]
    ) -> None:
        """A refused request records nothing; the other requests of its batch are recorded without gaps."""
        await append(log, create("r"), fork("r", "a"))
        answers = await log.append([put("r", "before"), refused, put("r", "after"), put("r", "a", "a")])
        assert errors(answers) == [None, error, None, None]
        found = await read(log)
        assert values(found) == ["before", "after", "a"]
        assert [each.position for each in found] == [1, 2, 3, 4, 5]
        assert [each.stream_version for each in found] == [1, 1, 2, 3, 2]

    async def test_what_was_refused_leaves_its_names_free(self, log: EventLog) -> None:
        """A run or branch opened by a request that was refused half-way can be opened later in the same batch."""
        await append(log, create("r"))
        answers = await log.append(
            [
                request("new", OpenRun(), setting(TOO_LARGE)),
                request("r", Fork(branch="a", parent=""), setting(TOO_LARGE, "a")),
                create("new"),
                fork("r", "a"),
            ]
        )
        assert errors(answers) == [EventTooLarge, EventTooLarge, None, None]

    async def test_many_refusals_in_one_batch(self, log: EventLog) -> None:
        """In a batch where every second request is refused half-way, each other request is recorded."""
        await append(log, create("r"))
        requests = [request("r", setting(value), setting(TOO_LARGE if value % 2 else value)) for value in range(20)]
        answers = await log.append(requests)
        assert errors(answers) == [None, EventTooLarge] * 10
        assert values(await read(log)) == [value for value in range(0, 20, 2) for _ in range(2)]

    async def test_an_event_as_large_as_the_limit_is_taken(self, log: EventLog) -> None:
        """An event of exactly the size limit is recorded; one byte more raises EventTooLarge with size and limit."""
        await append(log, create("r"))
        (answer,) = await log.append([put("r", "x" * log.capabilities.event_bytes_max)])
        assert isinstance(answer, EventTooLarge)
        assert answer.limit_bytes == log.capabilities.event_bytes_max
        excess = answer.size_bytes - answer.limit_bytes
        await append(log, put("r", "x" * (log.capabilities.event_bytes_max - excess)))
        (over,) = await log.append([put("r", "x" * (log.capabilities.event_bytes_max - excess + 1))])
        assert isinstance(over, EventTooLarge)

    async def test_a_value_that_cannot_be_encoded_is_refused_alone(self, log: EventLog) -> None:
        """A request with a value that cannot be encoded is refused; the other requests of its batch are recorded."""
        await append(log, create("r"))
        broken = Record(events=(ParametersSet(branch="", values={"x": Parameter(object())}),))
        answers = await log.append([put("r", 1), request("r", broken), put("r", 2)])
        assert errors(answers)[0] is errors(answers)[2] is None
        assert isinstance(answers[1], Exception)
        assert values(await read(log)) == [1, 2]


class TestReading:
    @pytest.fixture(autouse=True)
    async def _recorded(self, log: EventLog) -> None:
        """Record a run r with the branches a, a.b and c, and a run q with a branch a."""
        await append(log, create("r"), create("q"), fork("r", "a"), fork("r", "a.b", "a"), fork("r", "c"))
        await append(log, fork("q", "a"), put("r", 1), put("r", 2, "a"), put("r", 3, "a.b"), put("r", 4, "c"))
        await append(log, put("q", 5), put("q", 6, "a"))

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (EventFilter(), [1, 2, 3, 4, 5, 6]),
            (EventFilter("r"), [1, 2, 3, 4]),
            (EventFilter("q"), [5, 6]),
            (EventFilter("r", ""), [1]),
            (EventFilter("r", "", descendants=True), [1, 2, 3, 4]),
            (EventFilter("r", "a"), [2]),
            (EventFilter("r", "a", descendants=True), [2, 3]),
            (EventFilter("r", "a.b", descendants=True), [3]),
            (EventFilter("q", "a", descendants=True), [6]),
            (EventFilter("r", types=frozenset({"RunCreated"})), []),
            (EventFilter("r", "a", descendants=True, types=frozenset({"ParametersSet"})), [2, 3]),
            (EventFilter(types=frozenset()), []),
        ],
    )
    async def test_filters_by_run_branch_and_descendants(
        self, log: EventLog, wanted: EventFilter, found: list[int]
    ) -> None:
        """A filter selects events by run, branch, descendants and type, and matches names exactly."""
        assert values(await read(log, wanted)) == found

    async def test_a_branch_is_below_another_because_it_was_forked_from_it(self, log: EventLog) -> None:
        """A branch named `a.x` that was forked from the root is no descendant of `a`."""
        await append(log, fork("r", "a.x"), put("r", 7, "a.x"))
        assert 7 not in values(await read(log, EventFilter("r", "a", descendants=True)))

    async def test_a_run_forked_from_another_is_no_descendant_of_its_branch(self, log: EventLog) -> None:
        """A filter with descendants does not include runs forked from the run."""
        source = RunForked(branch="", source_run_id="r", source_branch="a", source_version=1, source_hash=b"")
        await append(log, request("new", OpenRun(event=source)), put("new", 7))
        found = await read(log, EventFilter("r", "", descendants=True))
        assert 7 not in values(found)
        assert {each.run_id for each in found} == {"r"}

    @pytest.mark.parametrize(
        ("types", "expected"),
        [
            ({"RunCreated"}, {RunCreated}),
            ({"BranchForked", "RunCreated"}, {BranchForked, RunCreated}),
            ({"JobLogged"}, set()),
        ],
    )
    async def test_filters_by_type(self, log: EventLog, types: set[str], expected: set[type]) -> None:
        """A filter selects events of any number of types, given by name."""
        found = await read(log, EventFilter(types=frozenset(types)))
        assert {type(each.event) for each in found} == expected

    async def test_after_is_exclusive_and_until_inclusive(self, log: EventLog) -> None:
        """`after` is exclusive and `until` is inclusive."""
        positions = [each.position for each in await read(log)]
        assert [each.position for each in await read(log, after=positions[2], until=positions[5])] == positions[3:6]
        assert await read(log, after=positions[-1]) == []
        assert await read(log, after=positions[5], until=positions[5]) == []

    @pytest.mark.parametrize("limit", [1, 2, 5, 100])
    async def test_reading_in_chunks_gives_all_of_it_once(self, log: EventLog, limit: int) -> None:
        """Reading in chunks, each from the position that the last one reached, gives every matching event once."""
        for wanted in (EventFilter(), EventFilter("q"), EventFilter("r", types=frozenset({"JobLogged"}))):
            gathered, after = [], 0
            while after < await log.last_position():
                found, after = await log.read(wanted, after, None, limit)
                assert len(found) <= limit
                gathered += found
            assert gathered == await read(log, wanted)

    @pytest.mark.parametrize(
        ("wanted", "error"),
        [
            (EventFilter("nobody"), RunNotFound),
            (EventFilter("nobody", "a"), RunNotFound),
            (EventFilter("r", "nobody"), BranchNotFound),
            (EventFilter("q", "a.b"), BranchNotFound),
        ],
    )
    async def test_a_filter_that_names_nothing_is_an_error(
        self, log: EventLog, wanted: EventFilter, error: type[Exception]
    ) -> None:
        """A filter that names an unknown run or branch raises an error instead of reading as empty."""
        with pytest.raises(error):
            await read(log, wanted)


async def test_what_was_appended_is_there_after_reopening(open_log: OpenLog, database: Path) -> None:
    """After reopening, the events are equal and the next append continues positions and versions."""
    async with open_log(database) as log:
        await append(log, create("r"), fork("r", "a"), put("r", 1, "a"))
        before = await read(log)
    async with open_log(database) as log:
        assert await read(log) == before
        answer = await append_one(log, put("r", 2, "a", expected=2))
        assert (answer.events[0].position, answer.stream_version) == (4, 3)


async def test_two_logs_on_one_store_see_each_other(open_log: OpenLog, database: Path) -> None:
    """Two logs on one store see each other's appends, and of concurrent appends at one version one is recorded."""
    async with open_log(database) as one, open_log(database) as two:
        await append(one, create("r"))
        for turn in range(1, 6):
            await append(two, put("r", turn, expected=2 * turn - 1))
            await append(one, put("r", -turn, expected=2 * turn))
        answers = await asyncio.gather(*(each.append([put("r", 0, expected=11)]) for each in (one, two, one, two)))
        assert sorted(isinstance(answer, Recorded) for (answer,) in answers) == [False, False, False, True]
        assert await read(one) == await read(two)


async def test_a_closed_log_says_so(open_log: OpenLog, database: Path) -> None:
    """Using a closed log raises EngineClosed; closing it again does nothing."""
    async with open_log(database) as log:
        await log.close()
        await log.close()
        with pytest.raises(EngineClosed):
            await log.last_position()
        with pytest.raises(EngineClosed):
            await log.append([create("r")])
