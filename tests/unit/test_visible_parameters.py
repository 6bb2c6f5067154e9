"""`VisibleParameters`: a dict that knows which values are only inherited, when merged, copied or pickled."""

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.model import Parameter
from engine.stores.visible import VisibleParameters


def parameter(value: Any) -> SimpleNamespace:
    return SimpleNamespace(kind="json", value=value)


def branch() -> VisibleParameters:
    """A branch that set `own` and inherited `x`."""
    return VisibleParameters({"own": parameter(1), "x": parameter("old")}, {"x": Parameter("old")})


def deep(visible: VisibleParameters) -> VisibleParameters:
    return copy.deepcopy(visible)


def pickled(visible: VisibleParameters) -> VisibleParameters:
    found: VisibleParameters = pickle.loads(pickle.dumps(visible))
    return found


def test_it_is_a_dict_of_everything_that_is_seen() -> None:
    """It equals the dict of all visible values."""
    assert dict(branch()) == {"own": parameter(1), "x": parameter("old")}


def test_its_own_is_what_is_not_just_inherited() -> None:
    """`own` gives the values that were set, added or changed, without inherited ones."""
    visible = branch()
    visible["added"] = parameter(2)
    assert set(visible.own()) == {"own", "added"}
    visible["x"] = parameter("new")
    assert set(visible.own()) == {"own", "added", "x"}


@pytest.mark.parametrize("copied", [lambda visible: visible.copy(), copy.copy, deep, pickled])
def test_copies_keep_the_knowledge(copied: Callable[[VisibleParameters], VisibleParameters]) -> None:
    """A copy of any kind knows which values are inherited."""
    made = copied(branch())
    assert isinstance(made, VisibleParameters)
    assert (dict(made), made.own()) == (dict(branch()), branch().own())


def test_a_deep_copy_is_apart() -> None:
    """Changing a value in a deep copy makes it own there and leaves the original unchanged."""
    visible = branch()
    made = copy.deepcopy(visible)
    made["x"].value = "new"
    assert (set(made.own()), set(visible.own())) == ({"own", "x"}, {"own"})


def updated(parent: VisibleParameters, other: Any) -> VisibleParameters:
    parent.update(other)
    return parent


def combined(parent: VisibleParameters, other: Any) -> VisibleParameters:
    parent |= other
    return parent


@pytest.mark.parametrize("merge", [updated, combined])
def test_merging_takes_only_what_the_other_has_of_its_own(
    merge: Callable[[VisibleParameters, Any], VisibleParameters],
) -> None:
    """Merging another `VisibleParameters` takes only its own values, not stale inherited ones."""
    parent = VisibleParameters({"x": parameter("fresh")})
    assert merge(parent, branch()) == {"x": parameter("fresh"), "own": parameter(1)}


@pytest.mark.parametrize("merge", [updated, combined])
@pytest.mark.parametrize("other", [{"x": 1}, [("x", 1)]])
def test_merging_anything_else_is_a_dict_s(
    merge: Callable[[VisibleParameters, Any], VisibleParameters], other: Any
) -> None:
    """Merging a plain dict or pairs takes all of them."""
    assert merge(VisibleParameters({"x": 0}), other) == {"x": 1}


def test_updating_takes_keywords() -> None:
    """`update` accepts keyword arguments."""
    visible = VisibleParameters()
    visible.update(x=1)
    assert visible == {"x": 1}
