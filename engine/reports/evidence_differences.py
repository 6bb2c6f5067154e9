"""The differences between a bundle of evidence and the log. Pure, over JSON documents.

Content erased from the log since cannot be compared; those places are marked.
"""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final, TypeAlias

from msgspec import Struct

from engine.proof.redaction import ERASED_TEXT, SPEC_KEPT, is_erased, is_erased_spec

DocumentPath: TypeAlias = tuple[str | int, ...]
"""A place in a JSON document: the member names and element indexes that lead to it."""

_MISSING: Final = object()


class Difference(Struct, frozen=True):
    """A place where a bundle differs from the log, such as `("tasks", 0, "status")`.

    `is_erased` is whether the log's content there was erased, so that it cannot be compared.
    """

    path: DocumentPath
    is_erased: bool

    @property
    def place(self) -> str:
        """The path as text: `tasks[0].status`."""
        steps = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in self.path)
        return "".join(steps).removeprefix(".")


def differences(
    found: Any, expected: Any, *, erased: bool, path: DocumentPath = (), gone: bool = False
) -> Iterator[Difference]:
    """Yield the places where a bundle differs from the log, descending as deep as both have the same structure.

    Ignores what depends on when the bundle was made: its time and position, and which artifacts exist.

    Args:
        found: the bundle, or a part of it.
        expected: what the log says.
        erased: content may have been erased from the log, so values in `expected` that look erased are not compared.
        gone: this place was erased.
    """
    if _is_time_dependent(path):
        return
    if gone or (erased and _is_erased(expected, path)):
        if found != expected:
            yield Difference(path, is_erased=True)
    elif isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted({*found, *expected}):
            one, other, place = found.get(name, _MISSING), expected.get(name, _MISSING), (*path, name)
            yield from differences(one, other, erased=erased, path=place, gone=erased and _is_gone(expected, place))
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, erased=erased, path=(*path, index))
    elif type(found) is not type(expected) or found != expected:
        yield Difference(path, is_erased=False)


def is_attempt(path: DocumentPath) -> bool:
    """Return whether a place of a bundle holds an attempt."""
    match path:
        case ("tasks", int(), "current_attempt") | ("tasks", int(), "attempts", int()):
            return True
        case ("branches", int(), "steps", int(), "attempts", int()):
            return True
        case _:
            return False


def _is_time_dependent(path: DocumentPath) -> bool:
    match path:
        case ("generated_at",) | ("log", "position"):
            return True
        case (*above, "artifacts", "exists"):
            return is_attempt(tuple(above))
        case _:
            return False


def _is_erased(expected: Any, path: DocumentPath) -> bool:
    match path:
        case (*above, "artifacts", "path") if is_attempt(tuple(above)):  # a root path joined with a relative one
            return isinstance(expected, str) and ERASED_TEXT in PurePath(expected).parts
        case _:
            return is_erased(expected)


def _is_gone(parent: dict[str, Any], path: DocumentPath) -> bool:
    """Return whether a place is a field of a task's specification that erasure has removed."""
    match path:
        case ("tasks", int(), "spec", name):
            return name in parent and name not in SPEC_KEPT and is_erased_spec(parent)
        case _:
            return False
