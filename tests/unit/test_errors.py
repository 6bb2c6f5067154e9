"""The error tree: its drawing in the docstring, and the errors' attributes and messages."""

import inspect
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from engine import errors
from engine.errors import AnabranchError, InvalidInput, InvalidValue, NotFound
from engine.model import Parameter, ParameterConflict

PATH = Path("/data/runs.db")
CONFLICT = ParameterConflict("loss", "a", None, Parameter(1), Parameter(2))

SAMPLES: dict[str, Any] = {
    "str": "text",
    "int": 3,
    "float": 0.5,
    "object": 2**70,
    inspect.formatannotation(Path): PATH,  # newer Python versions spell it differently
    "int | None": 5,
    "str | None": "r1",
    "datetime.datetime | None": datetime(2026, 1, 2, tzinfo=UTC),
    "collections.abc.Sequence[str]": ("r1", "r2"),
    "collections.abc.Sequence[tuple[str, str]]": (("r1", ""), ("r2", "a")),
    "'Sequence[ParameterConflict]'": (CONFLICT,),
}
"""A sample argument for each type that an error takes."""

CALLERS_TEXTS = {"run_id", "branch", "step", "attempt_id", "value", "name", "idempotency_key", "point", "rule"}


def classes() -> dict[str, type[AnabranchError]]:
    """Return every error class of the module by name."""
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: member for name, member in members if issubclass(member, AnabranchError)}


def drawn() -> dict[str, str]:
    """Return the tree in the module's docstring: the name of each class and of its base."""
    parents, above = {}, ["AnabranchError"]
    for line in (errors.__doc__ or "").splitlines():
        marker = max(line.find("├── "), line.find("└── "))
        if marker < 0:
            continue
        depth = marker // 4
        name = line[marker + 4 :].split()[0]
        del above[depth:]
        parents[name] = above[-1]
        above.append(name)
    return parents


def test_the_docstring_draws_the_tree_that_exists() -> None:
    """The tree drawn in the docstring has every error class once, below its base."""
    existing = {name: error.__bases__[0].__name__ for name, error in classes().items() if error is not AnabranchError}
    assert drawn() == existing


def leaves() -> list[type[AnabranchError]]:
    """Return the errors that are raised, without the groups that are only caught."""
    inner = {base for error in classes().values() for base in error.__mro__[1:]}
    return [error for error in classes().values() if error not in inner]


def facts(error: type[AnabranchError]) -> dict[str, Any]:
    """Return a sample value for each argument of an error."""
    taken = inspect.signature(error).parameters.values()
    return {each.name: SAMPLES[str(inspect.formatannotation(each.annotation))] for each in taken}


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.__name__)
def test_facts_are_attributes(error: type[AnabranchError]) -> None:
    """Every argument of an error is an attribute of it."""
    given = facts(error)
    raised = error(**given)
    assert {name: getattr(raised, name) for name in given} == given
    assert str(raised)


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.__name__)
def test_errors_cross_processes(error: type[AnabranchError]) -> None:
    """A pickled error is restored with its class, message, attributes and notes."""
    raised = error(**facts(error))
    raised.add_note("while the report was written")
    arrived = pickle.loads(pickle.dumps(raised))
    assert (type(arrived), str(arrived), vars(arrived)) == (error, str(raised), vars(raised))


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.__name__)
def test_a_callers_text_in_a_message_is_escaped_and_cut(error: type[AnabranchError]) -> None:
    """A caller's text in a message is escaped and cut."""
    given = facts(error)
    hostile = dict.fromkeys(given.keys() & CALLERS_TEXTS, "\x1b[2J\u202e" * 1000)
    message = str(error(**given | hostile))
    assert message.isprintable()
    assert len(message) < 400


def test_a_long_text_is_shown_by_both_its_ends() -> None:
    """A text of up to 80 characters is shown whole; a longer one by its beginning and end."""
    longest = "a" * 78
    assert str(errors.RunNotFound(longest)) == f"no run '{longest}'"
    assert str(errors.RunNotFound("a" * 500 + ".z9")) == f"no run '{'a' * 49}…{'a' * 26}.z9'"


def test_names_in_other_letters_are_shown_as_they_are() -> None:
    """Printable Unicode is shown as it is; only unprintable characters are escaped."""

    class Hostile:
        @override
        def __repr__(self) -> str:
            return "é\x1b[2J\u202e"

    assert str(errors.RunNotFound("été 日本\u202e")) == r"no run 'été 日本\u202e'"
    assert errors.shown(Hostile()) == r"é\x1b[2J\u202e"


def test_a_path_is_shown_whole() -> None:
    """A path is shown whole, with its control characters escaped."""
    path = Path("/data", "a" * 200, "\x1b[2J", "b" * 200, "runs.db")
    assert str(errors.DiskFull(path)) == f"the disk is full: '/data/{'a' * 200}/\\x1b[2J/{'b' * 200}/runs.db'"


def test_a_run_that_was_deleted_says_when_and_why() -> None:
    """RunNotFound for a deleted run states when and why it was deleted, with the reason escaped."""
    error = errors.RunNotFound("r", datetime(2026, 1, 2, 3, tzinfo=UTC), "too \x1b[2J old")
    assert str(error) == r"no run 'r': it was deleted at 2026-01-02 03:00:00 UTC, 'too \x1b[2J old'"


@pytest.mark.parametrize("group", [NotFound, InvalidInput])
def test_wrong_input_is_a_value_error_too(group: type[AnabranchError]) -> None:
    """NotFound and InvalidInput are ValueErrors."""
    assert issubclass(group, ValueError)


def test_a_reduction_conflict_names_every_conflict() -> None:
    """The message of ReductionConflict names each parameter once, in order."""
    conflicts: Sequence[ParameterConflict] = [
        ParameterConflict(name, branch, None, Parameter(1), Parameter(2))
        for name, branch in [("b", "x"), ("a", "x"), ("b", "y")]
    ]
    error = errors.ReductionConflict("r", "", conflicts)
    assert error.conflicts == tuple(conflicts)
    assert str(error).endswith("conflicts on 'a', 'b'")


class Unspeakable:
    @override
    def __repr__(self) -> str:
        raise KeyError


@pytest.mark.parametrize("value", [Unspeakable(), [Unspeakable()]])
def test_what_says_nothing_of_itself_is_shown_by_its_type(value: object) -> None:
    """A value whose `repr` raises is shown by its type."""
    assert str(InvalidValue("where", value, "is bad")) == f"where: <{type(value).__name__}> is bad"


def test_a_time_is_shown_as_people_write_it() -> None:
    """A time is shown in ISO format with its zone, even if it cannot be expressed in UTC."""
    last = datetime.max.replace(microsecond=0, tzinfo=timezone(-timedelta(hours=1)))
    assert str(InvalidValue("time", last, "is late")) == "time: 9999-12-31T23:59:59-01:00 is late"
