"""A state machine of runs against a model that copies everything: after every move, both agree."""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from typing_extensions import override

from engine import Branch, Engine, open_engine
from engine.errors import (
    AttemptExists,
    AttemptNotFound,
    BranchExists,
    PointNotFound,
    ReductionConflict,
    ReductionImpossible,
    RunExists,
    StepNotFound,
    VersionConflict,
)
from engine.model import AttemptDocument, Parameter
from tests.property.comparison import assert_branch
from tests.property.drawn import (
    ATTEMPTS,
    DETAILS,
    MESSAGES,
    NAMES,
    PARAMETERS,
    RULE_NAMES,
    SOME_PARAMETERS,
    STATUSES,
    STEPS,
    some_of,
)
from tests.property.model import ModelAttempt, ModelBranch, ModelRun, ModelStep
from tests.property.naive_reduction import Impossible, ModelConflict, key

Result = TypeVar("Result")
Place = tuple[str, str]
"""A run id and a branch's full name."""


class RunMachine(RuleBasedStateMachine):
    """Moves on an engine and on the model; after each move, the run that it touched is compared in full."""

    places: Bundle[Place] = Bundle("places")
    attempts: Bundle[tuple[Place, str, str]] = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.runs: dict[str, ModelRun] = {}
        self.touched: Place | None = None
        self.engine = self.run(self._open())

    async def _open(self) -> Engine:
        return await open_engine(Path(self.folder.name) / "runs.db", durability="relaxed")

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    @override
    def teardown(self) -> None:
        try:
            assert self.run(self.engine.verify_views()) == []
        finally:
            self.run(self.engine.close())
            self.runner.close()
            self.folder.cleanup()

    def model(self, place: Place) -> ModelBranch:
        self.touched = place
        return self.runs[place[0]].branches[place[1]]

    async def branch(self, place: Place) -> Branch:
        return await (await self.engine.run(place[0])).branch(place[1])

    def ask(self, place: Place, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of a branch's handle."""

        async def call() -> Any:
            return await getattr(await self.branch(place), method)(*arguments, **options)

        return self.run(call())

    @initialize(target=places, values=SOME_PARAMETERS)
    def first_run(self, values: dict[str, Parameter]) -> Place:
        return self._create("r0", values)

    @rule(target=places, values=SOME_PARAMETERS)
    def create_run(self, values: dict[str, Parameter]) -> Place:
        return self._create(f"r{len(self.runs)}", values)

    def _create(self, run_id: str, values: dict[str, Parameter]) -> Place:
        self.run(self.engine.create_run(run_id, parameters=values))
        self.runs[run_id] = ModelRun({})
        if values:
            self.model((run_id, "")).set(values)
        self.touched = run_id, ""
        return self.touched

    @rule(target=places, parent=places, name=st.sampled_from(["a", "b", "a.b", "0.5", "[1, 2]"]))
    def fork(self, parent: Place, name: str) -> Any:
        full = f"{parent[1]}.{name}" if parent[1] else name
        if full in self.runs[parent[0]].branches:
            with pytest.raises(BranchExists):
                self.ask(parent, "fork", name)
            return multiple()
        forked = self.ask(parent, "fork", name)
        self.runs[parent[0]].fork(parent[1], full)
        self.touched = parent[0], full
        assert forked.name == full
        return self.touched

    @rule(
        target=places,
        place=places,
        writes=st.lists(st.tuples(SOME_PARAMETERS, SOME_PARAMETERS), min_size=2, max_size=3),
    )
    def fan_out(self, place: Place, writes: list[tuple[dict[str, Parameter], dict[str, Parameter]]]) -> Any:
        """Open several branches that write while their parent writes, too, as input for reductions."""
        forked = []
        for own, parents in writes:
            name = f"f{len(self.runs[place[0]].branches)}"
            child = self.fork(place, name)
            for target, values in ((child, own), (place, parents)):
                if values:
                    self.set_parameters(target, values)
            forked.append(child)
        return multiple(*forked)

    @rule(target=places, source=places, data=st.data())
    def fork_run(self, source: Place, data: st.DataObject) -> Place:
        """Fork a run from any version of any branch."""
        version = data.draw(st.integers(1, self.model(source).version))
        run_id = f"r{len(self.runs)}"
        self.run(self.engine.fork_run(source[0], run_id=run_id, branch=source[1], at=version))
        seen, _ = self.model(source).history[version - 1]
        self.runs[run_id] = ModelRun(seen, self.model(source).succeeded_at(version))
        self.touched = run_id, ""
        return self.touched

    @rule(place=places, values=st.dictionaries(NAMES, PARAMETERS, min_size=1, max_size=3))
    def set_parameters(self, place: Place, values: dict[str, Parameter]) -> None:
        self.ask(place, "set_parameters", values, expected_version=self.model(place).version)
        self.model(place).set(values)

    @rule(place=places, status=STATUSES)
    def set_status(self, place: Place, status: str) -> None:
        self.ask(place, "set_status", status)
        self.model(place).set_status(status)

    @rule(place=places, details=DETAILS)
    def describe(self, place: Place, details: dict[str, Any]) -> None:
        self.ask(place, "describe", details)
        if self.model(place).details != details:
            self.model(place).details = details
            self.model(place).advance()

    @rule(place=places, step=STEPS, status=STATUSES, message=MESSAGES, details=DETAILS, attempts=ATTEMPTS)
    def log_step(
        self,
        place: Place,
        step: str,
        status: str,
        message: str,
        details: dict[str, Any],
        attempts: list[AttemptDocument],
    ) -> None:
        """Logging the same document a second time records nothing."""
        document = {"status": status, "message": message, "details": details, "attempts": attempts}
        self.ask(place, "log_step", step, **document)
        model = ModelStep(status=status, name=step, message=message, details=details)
        self.model(place).log_step(step, model, attempts)
        assert self.ask(place, "log_step", step, **document).events == ()

    @rule(place=places, step=STEPS, status=STATUSES, reason=st.sampled_from([None, "why"]))
    def set_step_status(self, place: Place, step: str, status: str, reason: str | None) -> None:
        if step not in self.model(place).seen_steps:
            with pytest.raises(StepNotFound):
                self.ask(place, "set_step_status", step, status, reason)
        else:
            self.ask(place, "set_step_status", step, status, reason)
            self.model(place).set_step_status(step, status, reason)

    @rule(place=places, step=STEPS)
    def remove_step(self, place: Place, step: str) -> None:
        if step not in self.model(place).seen_steps:
            with pytest.raises(StepNotFound):
                self.ask(place, "remove_step", step)
        else:
            self.ask(place, "remove_step", step)
            self.model(place).remove_step(step)

    @rule(target=attempts, place=places, step=STEPS, status=STATUSES, message=MESSAGES)
    def start_attempt(self, place: Place, step: str, status: str, message: str) -> tuple[Place, str, str]:
        attempt = self.ask(place, "start_attempt", step, status=status, message=message)
        self.model(place).start_attempt(step, attempt.attempt_id, status, message)
        assert attempt.attempt_index == len(self.model(place).steps[step].attempts)
        return place, step, attempt.attempt_id

    @rule(attempt=attempts, place=places)
    def start_an_attempt_with_an_id_that_is_taken(self, attempt: tuple[Place, str, str], place: Place) -> None:
        if self._known(attempt) is not None:
            with pytest.raises(AttemptExists):
                self.ask(place, "start_attempt", "train", attempt_id=attempt[2])

    @rule(attempt=attempts, message=MESSAGES, external_id=st.sampled_from([None, "job-7"]), outputs=SOME_PARAMETERS)
    def update_attempt(
        self, attempt: tuple[Place, str, str], message: str, external_id: str | None, outputs: dict[str, Parameter]
    ) -> None:
        changes = {"message": message, "external_id": external_id, "outputs": outputs}
        known = self._known(attempt)
        if known is None:
            with pytest.raises(AttemptNotFound):
                self._find(attempt)
        else:
            self.run(self._find(attempt).update(**changes))
            self.model(attempt[0]).update_attempt(attempt[1], known, **changes)

    @rule(attempt=consumes(attempts), status=STATUSES)
    def finish_attempt(self, attempt: tuple[Place, str, str], status: str) -> None:
        known = self._known(attempt)
        if known is not None:
            self.run(self._find(attempt).finish(status))
            self.model(attempt[0]).finish_attempt(attempt[1], known, status)

    def _find(self, attempt: tuple[Place, str, str]) -> Any:
        async def find() -> Any:
            return await (await self.engine.run(attempt[0][0])).find_attempt(attempt[2])

        return self.run(find())

    def _known(self, attempt: tuple[Place, str, str]) -> ModelAttempt | None:
        place, step, attempt_id = attempt
        known = self.model(place).steps.get(step)
        return next((each for each in known.attempts if each.attempt_id == attempt_id), None) if known else None

    @rule(
        place=places,
        rules=st.dictionaries(NAMES, RULE_NAMES, max_size=3),
        default=RULE_NAMES,
        functions=st.sets(NAMES, max_size=1),
        on_conflict=st.sampled_from(["child", "child", "parent", "error"]),
        data=st.data(),
    )
    def reduce(
        self,
        place: Place,
        rules: dict[str, str],
        default: str,
        functions: set[str],
        on_conflict: str,
        data: st.DataObject,
    ) -> None:
        """Reducing any children in any order, by any rules, gives the naive model's values, sources and conflicts."""
        run = self.runs[place[0]]
        everyone = run.children(place[1])
        children = data.draw(st.one_of(st.none(), some_of(everyone)))
        asked: dict[str, Any] = {**rules, **dict.fromkeys(functions, lambda values: {"seen": values})}
        options = {"rules": asked, "default": default, "on_conflict": on_conflict}
        named = {**rules, **dict.fromkeys(functions, "function")}
        self.touched = place
        try:
            expected = run.reduce(place[1], everyone if children is None else children, named, default, on_conflict)
        except (Impossible, ModelConflict) as refusal:
            error = ReductionImpossible if isinstance(refusal, Impossible) else ReductionConflict
            with pytest.raises(error):
                self.ask(place, "reduce", children, **options)
            return
        reduction = self.ask(place, "reduce", children, **options)
        assert key(reduction.values) == key(expected.values)
        assert [(conflict.name, conflict.branch) for conflict in reduction.conflicts] == expected.conflicts
        sources = {
            name: [(each.branch, each.stream_version) for each in found] for name, found in reduction.sources.items()
        }
        assert sources == expected.sources

    @rule(place=places, data=st.data(), inherited=st.booleans())
    def read_as_of(self, place: Place, data: st.DataObject, inherited: bool) -> None:  # noqa: FBT001 - drawn by name
        """Every past version can be read again, in full or by name."""
        history = self.model(place).history
        version = data.draw(st.integers(1, len(history)))
        found = self.ask(place, "parameters", at=version, inherited=inherited)
        assert key(found) == key(history[version - 1][0 if inherited else 1])
        name = data.draw(NAMES)
        one = self.ask(place, "parameters", at=version, inherited=inherited, names=[name])
        assert key(one) == key({each: value for each, value in found.items() if each == name})

    @rule(place=places)
    def ask_for_what_is_refused(self, place: Place) -> None:
        """Each refused call raises its typed error and records nothing."""
        version = self.model(place).version
        with pytest.raises(RunExists):
            self.run(self.engine.create_run(place[0]))
        with pytest.raises(VersionConflict) as caught:
            self.ask(place, "set_parameters", {"x": 1}, expected_version=version + 1)
        assert caught.value.actual == version
        for point in (-1, 0, version + 1):
            with pytest.raises(PointNotFound):
                self.ask(place, "parameters", at=point)

    @rule(place=places)
    def finalize(self, place: Place) -> None:
        """Finalizing a run records every head and closes nothing."""

        async def finalize() -> Any:
            return await (await self.engine.run(place[0])).finalize()

        recorded = self.run(finalize())
        heads = {head.branch: head.stream_version for head in recorded.events[-1].event.heads}
        assert heads == {name: branch.version for name, branch in self.runs[place[0]].branches.items()}
        self.model((place[0], "")).advance()

    @rule()
    def reopen(self) -> None:
        self.run(self.engine.close())
        self.engine = self.run(self._open())

    @rule()
    def rebuild(self) -> None:
        """Rebuild the views from the events; later comparisons still hold."""
        self.run(self.engine.rebuild())

    @precondition(lambda self: self.touched is not None)
    @invariant()
    def the_run_is_what_the_model_says(self) -> None:
        assert self.touched is not None
        place, self.touched = self.touched, None
        run_id, name = place
        compiled = self.ask((run_id, ""), "compile")
        run = self.runs[run_id]
        assert_branch(compiled, run, "")
        own = self.ask(place, "parameters", inherited=False)
        assert key(own) == key({each: value for each, (value, _) in run.branches[name].own.items()})
        assert self.ask(place, "children") == run.children(name)


COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

TestRuns = RunMachine.TestCase
TestRuns.settings = settings(COMMON, max_examples=25, stateful_step_count=30)


class LongRunMachine(RunMachine):
    """The same moves, in more and longer sequences."""


TestManyRuns = pytest.mark.slow(LongRunMachine.TestCase)
TestManyRuns.settings = settings(COMMON, max_examples=200, stateful_step_count=50)
