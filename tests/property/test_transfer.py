"""Any store goes through an export and an import unchanged, byte for byte."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from engine import Engine, open_engine
from engine.model import Parameter
from tests.exports import assert_same_runs, exported, imported
from tests.property.test_forks import check
from tests.property.test_run_machine import COMMON, RunMachine
from tests.property.test_state_store_machine import StateStoreMachine
from tests.strategies import documents, names, parameters


async def check_round_trip(source: Engine, path: Path, *, readable: bool) -> None:
    """Import an export into an empty store: it has the same runs, verifies, and exports the same bytes."""
    export = await exported(source, readable=readable)
    async with open_engine(path, durability="relaxed") as target:
        await imported(target, export)
        assert await exported(target, readable=readable) == export
        await assert_same_runs(source, target)
        assert (await target.verify()).problems == []
        assert await target.verify_views() == []


class _Machine(Protocol):
    engine: Engine

    def run(self, work: Coroutine[Any, Any, Any], /) -> Any: ...


def check_machine(machine: _Machine) -> None:
    """Check the round trip of the store that a state machine has built."""
    path = machine.engine.path.with_name("taken.db")
    machine.run(check_round_trip(machine.engine, path, readable=True))


class TransferredRuns(RunMachine):
    """Random run trees (forks, forked runs, reductions, attempts) go through an export unchanged."""

    @override
    def teardown(self) -> None:
        try:
            check_machine(self)
        finally:
            super().teardown()


class TransferredStates(StateStoreMachine):
    """Random state stores (tasks, attempts, external runs) go through an export unchanged."""

    @override
    def teardown(self) -> None:
        try:
            check_machine(self)
        finally:
            super().teardown()


TestTransferredRuns = TransferredRuns.TestCase
TestTransferredRuns.settings = settings(COMMON, max_examples=8, stateful_step_count=30)

TestTransferredStates = TransferredStates.TestCase
TestTransferredStates.settings = settings(COMMON, max_examples=3, stateful_step_count=25)


class ManyTransferredRuns(TransferredRuns):
    """The same moves, in more and longer sequences."""


TestManyTransferredRuns = pytest.mark.slow(ManyTransferredRuns.TestCase)
TestManyTransferredRuns.settings = settings(COMMON, max_examples=100, stateful_step_count=60)


class ManyTransferredStates(TransferredStates):
    """The same moves, in more and longer sequences."""


TestManyTransferredStates = pytest.mark.slow(ManyTransferredStates.TestCase)
TestManyTransferredStates.settings = settings(COMMON, max_examples=80, stateful_step_count=50)


async def check_any_run(source: Engine, name: str, parameter: Parameter, details: dict[str, Any]) -> None:
    run = await source.create_run(name, parameters={name: parameter}, tags=details, description=name)
    branch = await run.fork(name[:100])
    await branch.log_step(name, details=details, message=name)
    attempt = await branch.start_attempt(name, outputs={name: parameter}, details=details)
    await attempt.finish()
    await run.reduce()
    await source.fork_run(name, run_id=f"{name}, again")
    for readable in (True, False):
        await check_round_trip(source, source.path.with_name(f"{readable}.db"), readable=readable)


@settings(max_examples=15)
@given(names.filter(lambda name: len(name.encode()) < 400), parameters, documents)
def test_any_name_and_value_goes_along(name: str, parameter: Parameter, details: dict[str, Any]) -> None:
    """Any name and any value, NaN and 64-bit integers included, go through both kinds of export unchanged."""
    check(lambda engine: check_any_run(engine, name, parameter, details))


async def _check_erased(source: Engine, versions: list[int], *, delete: bool) -> None:
    run = await source.create_run("r", parameters={"x": 1})
    for version in range(2, 7):
        await run.set_parameters({"x": version, "y": str(version)})
    fork = await source.fork_run("r", run_id="fork", at=4)
    branch = await fork.fork("b")
    await branch.set_parameters({"x": 0})
    await fork.reduce([branch])
    for version in versions:
        await source.erase("r", "", version, "a secret", compact=False)
    if delete:
        await source.delete_run("r", "old", carry_over=True)
    await check_round_trip(source, source.path.with_name("taken.db"), readable=True)


@settings(max_examples=10)
@given(st.lists(st.integers(2, 7), max_size=4), st.booleans())
def test_a_store_with_erasures_and_a_deletion_goes_along(versions: list[int], delete: bool) -> None:  # noqa: FBT001 - drawn
    """A store with erased events and a deleted run goes through an export unchanged."""
    check(lambda engine: _check_erased(engine, versions, delete=delete))
