"""Random trees of runs with erasures and deletions between the writes: what remains reads as the model says."""

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Branch, Engine, RecordedEvent, open_engine
from engine.errors import NotErasable, ReductionImpossible, RunHasForks
from engine.events import BranchForked, ParametersReduced, ParametersSet, RunForked, SourceCarriedOver
from engine.model import ERASED, Origin, Parameter
from tests.property.drawn import NAMES, STEPS
from tests.property.naive_reduction import key

QUICK = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=600)

PLACES = st.integers(0, 30)
WRITES = st.dictionaries(NAMES, st.integers(0, 9), min_size=1, max_size=2)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("fork"), PLACES),
        st.tuples(st.just("fork_run"), PLACES, PLACES),
        st.tuples(st.just("set"), PLACES, WRITES),
        st.tuples(st.just("set"), PLACES, WRITES),
        st.tuples(st.just("step"), PLACES, STEPS, st.sampled_from(["COMPLETED", "FAILED"])),
        st.tuples(st.just("reduce"), PLACES),
        st.tuples(st.just("erase"), PLACES),
        st.tuples(st.just("delete"), PLACES, st.booleans()),
        st.tuples(st.just("checkpoint")),
    ),
    max_size=30,
)
Place = tuple[str, str]


class Model:
    """What every branch set at every version, in plain dictionaries; deleted runs stay known to their forks."""

    def __init__(self) -> None:
        self.wrote: dict[Place, dict[int, dict[str, Parameter]]] = {}
        self.parents: dict[Place, tuple[Place, int]] = {}

    def note(self, recorded: RecordedEvent) -> None:
        """Take in an event as it was first recorded."""
        place, event = (recorded.run_id, recorded.branch), recorded.event
        writes = self.wrote.setdefault(place, {})
        if isinstance(event, BranchForked):
            self.parents[place] = (recorded.run_id, event.parent), event.parent_version
        elif isinstance(event, RunForked):
            self.parents[place] = (event.source_run_id, event.source_branch), event.source_version
        elif isinstance(event, ParametersSet | ParametersReduced):
            writes[recorded.stream_version] = dict(event.values)

    def erase(self, place: Place, version: int) -> None:
        writes = self.wrote[place]
        if version in writes:
            writes[version] = dict.fromkeys(writes[version], ERASED)

    def seen(self, place: Place, version: int) -> dict[str, Parameter]:
        """Return what a branch sees as of a version, forks resolved."""
        parent = self.parents.get(place)
        found = {} if parent is None else self.seen(*parent)
        for at, values in sorted(self.wrote[place].items()):
            if at <= version:
                found |= values
        return found


class Story:
    """Moves on an engine, repeated on the model."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model = Model()
        self.branches: list[Branch] = []
        self.opened = 0
        self.checkpoints: list[Any] = []
        self.tokens = 0
        self.gone: set[str] = set()
        self._looked_at = 0

    async def tell(self, moves: list[Any]) -> None:
        await self._open()
        for move, *details in moves:
            if not self.branches:
                await self._open()
            await getattr(self, f"move_{move}")(*details)
            await self._look()

    async def _open(self) -> None:
        self.opened += 1
        self.branches.append(await self.engine.create_run(f"r{self.opened}", description="d", tags={"t": self.opened}))
        await self._look()

    async def _look(self) -> None:
        async for recorded in self.engine.events(after=self._looked_at):
            self.model.note(recorded)
            self._looked_at = recorded.position

    def _chosen(self, choice: int) -> Branch:
        return self.branches[choice % len(self.branches)]

    async def move_fork(self, choice: int) -> None:
        self.opened += 1
        self.branches.append(await self._chosen(choice).fork(f"b{self.opened}"))

    async def move_fork_run(self, choice: int, version: int) -> None:
        self.opened += 1
        source = self._chosen(choice)
        at = version % (await source.head()).stream_version + 1
        run_id = f"r{self.opened}"
        self.branches.append(await self.engine.fork_run(source.run_id, run_id=run_id, branch=source.name, at=at))

    async def move_set(self, choice: int, values: dict[str, int]) -> None:
        self.tokens += 1
        texts = {name: f"<{self.tokens}-{value}>" for name, value in values.items()}
        await self._chosen(choice).set_parameters(texts)

    async def move_step(self, choice: int, step: str, status: str) -> None:
        branch = self._chosen(choice)
        if choice % 2:
            await branch.log_step(step, status=status)
        else:
            await (await branch.start_attempt(step)).finish(status)

    async def move_reduce(self, choice: int) -> None:
        with contextlib.suppress(ReductionImpossible):
            await self._chosen(choice).reduce(rules={"x": "collect"})

    async def move_erase(self, choice: int) -> None:
        events = [each async for each in self.engine.events()]
        each = events[choice * 7 % len(events)]
        with contextlib.suppress(NotErasable):
            await self._erase(Origin(each.run_id, each.branch, each.stream_version))
            if isinstance(each.event, ParametersSet):
                self.gone |= {str(value.value) for value in each.event.values.values()}

    async def _erase(self, at: Origin) -> None:
        """Erase an event and the copies of it that were carried over to other runs, as the erasure names them."""
        events = self.engine.events(run_id=at.run_id, branch=at.branch)
        event = next(each.event for each in [each async for each in events] if each.stream_version == at.stream_version)
        erasure = await self.engine.erase(at.run_id, at.branch, at.stream_version, "drawn", compact=False)
        self.model.erase((at.run_id, at.branch), at.stream_version)
        if isinstance(event, SourceCarriedOver):
            self._erase_carried(at.run_id, event)
        for each in erasure.carried:
            await self._erase(each)

    def _erase_carried(self, run_id: str, event: SourceCarriedOver) -> None:
        """Replace what the run saw of its source with erased values of its own."""
        place = run_id, ""
        self.model.wrote[place][1] = dict.fromkeys(event.values, ERASED)
        self.model.parents.pop(place, None)

    async def move_delete(self, choice: int, carry_over: bool) -> None:  # noqa: FBT001 - as it is drawn
        run_id = self._chosen(choice).run_id
        try:
            await self.engine.delete_run(run_id, "drawn", carry_over=carry_over)
        except RunHasForks:
            assert not carry_over
        else:
            self.branches = [each for each in self.branches if each.run_id != run_id]

    async def move_checkpoint(self) -> None:
        self.checkpoints.append((await self.engine.checkpoint(), {each.run_id for each in self.branches}))

    async def check(self) -> None:
        """Compare all remaining reads with the model, verify chains and views, and compare again after a rebuild."""
        await self._check_reads()
        assert (await self.engine.verify()).problems == []
        assert await self.engine.verify_views() == []
        for checkpoint, runs in self.checkpoints:
            await self._check_checkpoint(checkpoint, runs)
        await self.engine.rebuild()
        await self._check_reads()

    async def _check_checkpoint(self, checkpoint: Any, runs: set[str]) -> None:
        verified = await self.engine.verify(since=checkpoint)
        there = {each.run_id for each in self.branches}
        assert not there & set(verified.deleted)
        if runs <= there:
            assert verified.problems == []
        assert {each.kind for each in verified.problems} <= {"checkpoint", "deleted"}

    async def _check_reads(self) -> None:
        for branch in self.branches:
            last = (await branch.head()).stream_version
            for version in range(1, last + 1):
                expected = self.model.seen((branch.run_id, branch.name), version)
                assert key(await branch.parameters(at=version)) == key(expected)
            assert key((await branch.compile()).parameters) == key(self.model.seen((branch.run_id, branch.name), last))


def check(moves: list[Any]) -> None:
    """Carry out the moves on a fresh engine and check it; after a compaction, no file holds an erased text."""

    async def tell(folder: str) -> None:
        async with open_engine(Path(folder) / "runs.db", durability="relaxed") as engine:
            story = Story(engine)
            await story.tell(moves)
            await story.check()
            kept = str([each async for each in engine.events(types=[SourceCarriedOver])])
            await engine.compact()
        files = b"".join(path.read_bytes() for path in Path(folder).iterdir())
        assert [text for text in story.gone if text.encode() in files and text not in kept] == []

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(tell(folder))


def test_what_was_carried_over_to_two_runs_is_erased_in_both() -> None:
    """Erasing one of two carried-over copies of an event names the other, which is then erased; found by chance."""
    forks = [("fork_run", 1, 1), ("fork_run", 1, 1), ("delete", 0, True), *[("fork", 0)] * 4]
    check([("fork", 0), ("set", 1, {"x": 0}), *forks, ("erase", 5)])


@QUICK
@given(MOVES)
def test_what_remains_reads_as_the_model_says(moves: list[Any]) -> None:
    """After erasures and deletions, every version of every branch reads as the model says, the chains and views verify,
    and no file holds an erased text.
    """
    check(moves)


@pytest.mark.slow
@MANY
@given(MOVES)
def test_what_remains_reads_as_the_model_says_in_many_stories(moves: list[Any]) -> None:
    """In many more stories, what remains after erasures and deletions reads as the model says."""
    check(moves)
