"""Lineages of random runs: every node is an event of the log, and its rule folds its sources into its value."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Branch, Engine, RecordedEvent
from engine.errors import ReductionImpossible
from engine.events import ParametersReduced, ParametersSet
from engine.lineage import LIMIT_MAX, Lineage, Written
from engine.model import Origin, Parameter
from tests.property.drawn import NAMES, PARAMETERS, RULE_NAMES
from tests.property.naive_reduction import apply_rule, key
from tests.property.test_forks import check

QUICK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=500)

# Mostly numbers, so that most rules fit them.
WRITES = st.dictionaries(NAMES, st.one_of(st.integers(-3, 3).map(Parameter), PARAMETERS), min_size=1, max_size=2)
RULES = st.dictionaries(NAMES, st.one_of(RULE_NAMES, st.just("function")), max_size=3)
PLACES = st.integers(0, 20)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("fork"), PLACES),
        st.tuples(st.just("fork_run"), PLACES),
        st.tuples(st.just("set"), PLACES, WRITES),
        st.tuples(st.just("set"), PLACES, WRITES),
        st.tuples(st.just("reduce"), PLACES, RULES, st.sampled_from(["child", "parent"])),
    ),
    max_size=25,
)
Events = dict[int, RecordedEvent]


async def grow(engine: Engine, moves: list[Any]) -> list[Branch]:
    """Carry out the moves; where the drawn rules cannot fold the values, reduce by the default rule."""
    branches: list[Branch] = [await engine.create_run("r")]
    for move, choice, *details in moves:
        branch = branches[choice % len(branches)]
        if move == "fork":
            branches.append(await branch.fork(f"b{len(branches)}"))
        elif move == "fork_run":
            run_id = f"r{len(branches)}"
            branches.append(await engine.fork_run(branch.run_id, run_id=run_id, branch=branch.name))
        elif move == "set":
            await branch.set_parameters(details[0])
        else:
            await _reduce(branch, *details)
    return branches


async def _reduce(branch: Branch, drawn: dict[str, str], on_conflict: Any) -> None:
    rules: dict[str, Any] = {
        name: (lambda values: {"seen": values}) if rule == "function" else rule for name, rule in drawn.items()
    }
    try:
        await branch.reduce(rules=rules, on_conflict=on_conflict)
    except ReductionImpossible:
        await branch.reduce(on_conflict=on_conflict)


async def check_lineages(engine: Engine, moves: list[Any]) -> None:
    branches = await grow(engine, moves)
    handles = {(branch.run_id, branch.name): branch for branch in branches}
    events = {recorded.position: recorded async for recorded in engine.events()}
    for branch in branches:
        seen, origins = await branch.parameters(), await branch.sources()
        for name, value in seen.items():
            found = await branch.lineage(name, history=True, limit=LIMIT_MAX)
            assert key(found.value) == key(value)
            assert Origin(found.run_id, found.branch, found.stream_version) == origins[name]
            for node in found.walk():
                assert_in_the_log(events, name, node)
                assert_made_of_its_sources(events, name, node)
                await assert_overwrote_what_was_seen(handles, name, node)
            assert_connected(found)


def assert_in_the_log(events: Events, name: str, written: Written) -> None:
    """The log holds the event, with the same facts and the same value."""
    recorded = events[written.position]
    for fact in ("run_id", "branch", "stream_version", "event_id", "recorded_at", "hash"):
        assert getattr(recorded, fact) == getattr(written, fact)
    assert isinstance(recorded.event, ParametersReduced if written.how == "reduced" else ParametersSet)
    assert key(recorded.event.values[name]) == key(written.value)


def assert_made_of_its_sources(events: Events, name: str, node: Lineage) -> None:
    """The node's rule, applied again to the children's writes, uses the node's sources and gives its value."""
    event = events[node.position].event
    if not isinstance(event, ParametersReduced):
        assert (node.rule, node.sources, node.passed_over, node.more) == (None, [], [], 0)
        return
    assert node.rule == event.rules[name]
    assert node.more == 0
    order = [head.branch for head in event.children]
    contributions: list[Written] = sorted(
        [*node.sources, *node.passed_over], key=lambda written: order.index(written.branch)
    )
    value, used = apply_rule(node.rule, [written.value for written in contributions])
    assert key(value) == key(node.value)
    assert [contributions[place].position for place in used] == [source.position for source in node.sources]
    assert [(each.branch, each.stream_version) for each in node.sources] == [
        (each.branch, each.stream_version) for each in event.sources[name]
    ]
    for written in node.passed_over:
        assert_in_the_log(events, name, written)
    assert [(each.branch, key(each.child)) for each in node.conflicts] == [
        (each.branch, key(each.child)) for each in event.conflicts if each.name == name
    ]


async def assert_overwrote_what_was_seen(handles: dict[tuple[str, str], Branch], name: str, node: Lineage) -> None:
    """A node overwrote what its branch saw one version earlier."""
    branch = handles[node.run_id, node.branch]
    seen, origins = await _at(branch, node.stream_version - 1)
    if node.overwrote is None:
        assert name not in seen
        return
    before = node.overwrote
    assert key(before.value) == key(seen[name])
    assert Origin(before.run_id, before.branch, before.stream_version) == origins[name]


async def _at(branch: Branch, version: int) -> tuple[dict[str, Parameter], dict[str, Origin]]:
    return await branch.parameters(at=version), await branch.sources(at=version)


def assert_connected(found: Lineage) -> None:
    """Each value of the history was overwritten by the one after it, and the sources of a node are older than it."""
    for later, earlier in zip([found, *found.history], [*found.history, None], strict=True):
        assert (later.overwrote and later.overwrote.position) == (earlier and earlier.position)
    for node in found.walk():
        assert all(source.position < node.position for source in [*node.sources, *node.passed_over])
    if found.inherited_through:
        nearest = found.inherited_through[-1]
        assert (nearest.run_id, nearest.branch) == (found.run_id, found.branch)
        assert found.stream_version <= nearest.stream_version


@QUICK
@given(MOVES)
def test_a_lineage_is_what_the_log_says(moves: list[Any]) -> None:
    """For every name that any branch sees, after any moves, the lineage agrees with the log."""
    check(lambda engine: check_lineages(engine, moves))


@pytest.mark.slow
@MANY
@given(MOVES)
def test_a_lineage_is_what_the_log_says_in_many_runs(moves: list[Any]) -> None:
    """In many more runs, every name's lineage agrees with the log."""
    check(lambda engine: check_lineages(engine, moves))
