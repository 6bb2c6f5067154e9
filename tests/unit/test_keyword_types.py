"""The typed dictionaries of keyword arguments name exactly the arguments that are accepted."""

import inspect
from typing import get_type_hints

from engine import Branch, open_engine
from engine.composition import OpenOptions
from engine.handles.attempt_fields import AttemptFields, AttemptUpdates, StartOptions
from engine.model import NOT_INITIAL_FIELDS, AttemptChanges


def keywords(function: object) -> set[str]:
    """Return the keyword-only parameters of a function."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_an_attempt_is_updated_by_its_fields() -> None:
    """`AttemptUpdates` names all fields of `AttemptChanges`, and `AttemptFields` those allowed at the start."""
    assert get_type_hints(AttemptUpdates).keys() == set(AttemptChanges.__struct_fields__)
    assert get_type_hints(AttemptFields).keys() == set(AttemptChanges.__struct_fields__) - set(NOT_INITIAL_FIELDS)


def test_a_block_takes_what_a_start_takes() -> None:
    """`StartOptions` names every keyword of `start_attempt` and every attempt field."""
    assert get_type_hints(StartOptions).keys() == {*keywords(Branch.start_attempt), *get_type_hints(AttemptFields)}


def test_whatever_opens_an_engine_takes_its_options() -> None:
    """`OpenOptions` names every keyword of `open_engine`."""
    assert get_type_hints(OpenOptions).keys() == keywords(open_engine)
