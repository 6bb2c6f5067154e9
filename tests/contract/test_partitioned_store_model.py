"""Property tests of the partitioned store, against a model that copies everything, and of reading documents back."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Engine
from engine.codec import same
from engine.errors import BranchNotFound
from engine.model import Parameter
from engine.stores import PartitionedRunLogStore, RunLog, StepAttempt, StepLog
from tests import strategies
from tests.contract.run_log_stores import values

BRANCHES = ("", "a", "a.b", "a.b.c", "d")
NAMES = st.sampled_from("xyz")
VALUES = st.dictionaries(NAMES, st.integers(0, 2), min_size=1)

Operation = tuple[str, str, Any]

operations = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(BRANCHES), VALUES),
        st.tuples(st.just("copy"), st.sampled_from(BRANCHES[1:]), st.none()),
        st.tuples(st.just("reduce"), st.sampled_from(BRANCHES[1:]), st.none()),
        st.tuples(st.just("compile"), st.sampled_from(BRANCHES), st.none()),
    ),
    max_size=25,
)

several_parameters = st.dictionaries(strategies.names, strategies.parameters, max_size=2)
details = st.lists(strategies.documents, max_size=2)
attempts = st.builds(
    StepAttempt,
    attempt_number=strategies.integers,
    start_time=strategies.texts,
    end_time=strategies.texts,
    status=strategies.names,
    message=strategies.texts,
    input_parameters=several_parameters,
    output_parameters=several_parameters,
    user_defined_metrics=several_parameters,
    retry_indicator=strategies.texts,
    code_identities=details,
)
steps = st.builds(
    StepLog,
    name=strategies.names,
    internal_name=strategies.names,
    status=strategies.names,
    step_type=strategies.texts,
    message=strategies.texts,
    mock=st.booleans(),
    attempts=st.lists(attempts, max_size=2),
    branches=st.just({}),
    data_catalog=details,
)


class CopyingModel:
    """A model that keeps, for each branch, copies of inherited values, own values, copied names and the parent."""

    def __init__(self) -> None:
        self.inherited: dict[str, dict[str, int]] = {"": {}}
        self.own: dict[str, dict[str, int]] = {"": {}}
        self.copied: dict[str, set[str]] = {"": set()}
        self.parent: dict[str, str] = {}

    def seen(self, branch: str) -> dict[str, int]:
        return {**self.inherited[branch], **self.own[branch]}

    def open(self, branch: str) -> None:
        if branch not in self.own:
            parent = next(prefix for prefix in prefixes(branch) if prefix in self.own)
            self.inherited[branch], self.own[branch], self.parent[branch] = self.seen(parent), {}, parent
            self.copied[branch] = set()

    def set(self, branch: str, given: dict[str, int]) -> set[str]:
        """Set the values that differ from the visible ones and return their names."""
        self.open(branch)
        seen = self.seen(branch)
        new = {name: value for name, value in given.items() if seen.get(name) != value}
        self.own[branch].update(new)
        self.copied[branch] -= new.keys()
        return set(new)

    def copy(self, source: str, target: str) -> None:
        self.open(source)
        if target in self.own:
            self.copied[target] |= self.set(target, self.seen(source))
        self.open(target)

    def reduce(self, child: str) -> None:
        written = {name: value for name, value in self.own[child].items() if name not in self.copied[child]}
        self.own[self.parent[child]].update(written)
        self.copied[self.parent[child]] -= written.keys()

    def compile(self, branch: str) -> None:
        children = [each for each, parent in self.parent.items() if parent == branch]
        for child in children:
            self.compile(child)
        for child in children:
            self.reduce(child)


def prefixes(branch: str) -> list[str]:
    """Return the names that a branch's parent may have, longest first and the root last."""
    parts = branch.split(".")
    return [".".join(parts[:length]) for length in range(len(parts) - 1, -1, -1)]


async def copy(store: PartitionedRunLogStore, model: CopyingModel, run_id: str, branch: str) -> None:
    source = prefixes(branch)[0]
    if branch in model.own and source not in model.own:
        with pytest.raises(BranchNotFound):
            await store.copy_parameters_to_branch(run_id, source, branch)
    else:
        await store.copy_parameters_to_branch(run_id, source, branch)
        model.copy(source, branch)


async def apply(operation: Operation, store: PartitionedRunLogStore, model: CopyingModel, run_id: str) -> None:
    """Apply an operation to both store and model, unless the store would refuse it."""
    kind, branch, given_values = operation
    if kind == "set":
        await store.set_parameters(run_id, given_values, branch)
        model.set(branch, given_values)
    elif kind == "copy":
        await copy(store, model, run_id, branch)
    elif kind == "reduce" and branch in model.own:
        await store.reduce_parameters_to_parent(run_id, branch, model.parent[branch])
        model.reduce(branch)
    elif kind == "compile" and branch in model.own:
        await store.compile_branch_results(run_id, branch)
        model.compile(branch)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(operations)
async def test_every_branch_sees_what_it_would_had_everything_been_copied(
    engine: Engine, asked: list[Operation]
) -> None:
    """Every branch shows the same as in a model that copies all parameters on a fork."""
    store, model = PartitionedRunLogStore(engine), CopyingModel()
    run_id = f"r{await engine.last_position()}"
    await store.create_run_log(run_id)
    for operation in asked:
        await apply(operation, store, model, run_id)
    run = await engine.run(run_id)
    for branch in model.own:
        assert values(await store.get_parameters(run_id, branch)) == model.seen(branch)
        own = await (await run.branch(branch)).parameters(inherited=False)
        assert values(own) == model.own[branch]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(steps, max_size=3, unique_by=lambda step: step.internal_name), several_parameters)
async def test_any_run_log_comes_back_as_it_was(
    engine: Engine, logged: list[StepLog], given_parameters: dict[str, Parameter]
) -> None:
    """Any run log is read back as it was put; putting it again as plain mappings records nothing."""
    store = PartitionedRunLogStore(engine)
    given_log = RunLog(
        run_id=f"r{await engine.last_position()}",
        tag="t",
        dag_hash="h",
        status="S",
        steps={step.internal_name: step for step in logged},
        parameters=given_parameters,
    )
    await store.put_run_log(given_log)
    position = await engine.last_position()
    await store.put_run_log(msgspec.to_builtins(given_log))
    assert same(await store.get_run_log_by_id(given_log.run_id), given_log)
    assert await engine.last_position() == position
