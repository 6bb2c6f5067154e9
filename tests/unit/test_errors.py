"""The error tree: its drawing, its facts, its messages."""

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
    inspect.formatannotation(Path): PATH,  # spelled otherwise by newer Pythons
    "int | None": 5,
    "str | None": "r1",
    "datetime.datetime | None": datetime(2026, 1, 2, tzinfo=UTC),
    "collections.abc.Sequence[str]": ("r1", "r2"),
    "collections.abc.Sequence[tuple[str, str]]": (("r1", ""), ("r2", "a")),
    "collections.abc.Sequence[object]": (CONFLICT,),
}
"""A fact for each type that an error takes."""

CALLERS_TEXTS = {"run_id", "branch", "step", "attempt_id", "value", "name", "idempotency_key", "point", "rule"}


def classes() -> dict[str, type[AnabranchError]]:
    """Every error of the module, by name."""
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: member for name, member in members if issubclass(member, AnabranchError)}


def drawn() -> dict[str, str]:
    """The tree in the module's docstring: the name of each class and of the one above it."""
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
    """Every class is drawn once, below the class it derives from."""
    existing = {name: error.__bases__[0].__name__ for name, error in classes().items() if error is not AnabranchError}
    assert drawn() == existing


def leaves() -> list[type[AnabranchError]]:
    """The errors that are raised: the groups above them only serve to catch."""
    inner = {base for error in classes().values() for base in error.__mro__[1:]}
    return [error for error in classes().values() if error not in inner]


def facts(error: type[AnabranchError]) -> dict[str, Any]:
    """A fact for everything that the error is made from."""
    taken = inspect.signature(error).parameters.values()
    return {each.name: SAMPLES[str(inspect.formatannotation(each.annotation))] for each in taken}


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.__name__)
def test_facts_are_attributes(error: type[AnabranchError]) -> None:
    """Whoever catches an error reads what it was made from; nobody has to parse a message."""
    given = facts(error)
    raised = error(**given)
    assert {name: getattr(raised, name) for name in given} == given
    assert str(raised)


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.__name__)
def test_errors_cross_processes(error: type[AnabranchError]) -> None:
    """What a worker of a pool raises arrives whole: its class, its message, its facts and its notes."""
    raised = error(**facts(error))
    raised.add_note("while the report was written")
    arrived = pickle.loads(pickle.dumps(raised))
    assert (type(arrived), str(arrived), vars(arrived)) == (error, str(raised), vars(raised))


@pytest.mark.parametrize("error", leaves(), ids=lambda error: error.__name__)
def test_a_callers_text_in_a_message_is_escaped_and_cut(error: type[AnabranchError]) -> None:
    """A hostile name can neither move the cursor of a terminal nor flood it."""
    given = facts(error)
    hostile = dict.fromkeys(given.keys() & CALLERS_TEXTS, "\x1b[2J\u202e" * 1000)
    message = str(error(**given | hostile))
    assert message.isprintable()
    assert len(message) < 400


def test_a_long_text_is_shown_by_both_its_ends() -> None:
    """Names that begin alike often differ at their ends: of 80 characters or fewer all are shown."""
    longest = "a" * 78
    assert str(errors.RunNotFound(longest)) == f"no run '{longest}'"
    assert str(errors.RunNotFound("a" * 500 + ".z9")) == f"no run '{'a' * 49}…{'a' * 26}.z9'"


def test_names_in_other_letters_are_shown_as_they_are() -> None:
    """Who reads an error is to know the name again; only what cannot be printed is escaped, whoever shows it."""

    class Hostile:
        @override
        def __repr__(self) -> str:
            return "é\x1b[2J\u202e"

    assert str(errors.RunNotFound("été 日本\u202e")) == r"no run 'été 日本\u202e'"
    assert errors.shown(Hostile()) == r"é\x1b[2J\u202e"


def test_a_path_is_shown_whole() -> None:
    """It is there to be opened; its control characters are escaped."""
    path = Path("/data", "a" * 200, "\x1b[2J", "b" * 200, "runs.db")
    assert str(errors.DiskFull(path)) == f"the disk is full: '/data/{'a' * 200}/\\x1b[2J/{'b' * 200}/runs.db'"


def test_a_run_that_was_deleted_says_when_and_why() -> None:
    """The reason is a caller's text like any other."""
    error = errors.RunNotFound("r", datetime(2026, 1, 2, 3, tzinfo=UTC), "too \x1b[2J old")
    assert str(error) == r"no run 'r': it was deleted at 2026-01-02 03:00:00 UTC, 'too \x1b[2J old'"


@pytest.mark.parametrize("group", [NotFound, InvalidInput])
def test_wrong_input_is_a_value_error_too(group: type[AnabranchError]) -> None:
    """A caller that knows nothing of the engine may catch `ValueError`."""
    assert issubclass(group, ValueError)


def test_a_reduction_conflict_names_every_conflict() -> None:
    """All names are in the message, once each and in order."""
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
    """A caller's object that fails to say what it is does not take the place of the error about it."""
    assert str(InvalidValue("where", value, "is bad")) == f"where: <{type(value).__name__}> is bad"


def test_a_time_is_shown_as_people_write_it() -> None:
    """With its zone, where it has one: also one that is too far away to be told in UTC."""
    last = datetime.max.replace(microsecond=0, tzinfo=timezone(-timedelta(hours=1)))
    assert str(InvalidValue("time", last, "is late")) == "time: 9999-12-31T23:59:59-01:00 is late"
