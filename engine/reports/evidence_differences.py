"""What a bundle of evidence says otherwise than the log. Pure, over JSON documents.

What was erased from the log since cannot be compared: those places are told apart from the others.
"""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final, TypeAlias

from msgspec import Struct

from engine.proof.redaction import ERASED_TEXT, SPEC_KEPT, is_erased, is_erased_spec

DocumentPath: TypeAlias = tuple[str | int, ...]
"""A place in a JSON document: the names of members and the indexes of elements that lead there."""

_MISSING: Final = object()


class Difference(Struct, frozen=True):
    """A place at which a bundle says something else than the log does, such as `("tasks", 0, "status")`.

    `is_erased` is whether the log has no words there any more that could be compared.
    """

    path: DocumentPath
    is_erased: bool

    @property
    def place(self) -> str:
        """Return the path as people write it: `tasks[0].status`."""
        steps = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in self.path)
        return "".join(steps).removeprefix(".")


def differences(
    found: Any, due: Any, *, erased: bool, path: DocumentPath = (), gone: bool = False
) -> Iterator[Difference]:
    """Yield the places at which a bundle differs from what is due, as deep as both have them.

    Left out is what is of its day, or of its store: when and at which position it was made, and which artifacts exist.

    Args:
        erased: something of what `due` says may have been erased: what looks like that is not compared.
        gone: this very place was.
    """
    if _is_of_its_day(path):
        return
    if gone or (erased and _is_erased(due, path)):
        if found != due:
            yield Difference(path, is_erased=True)
    elif isinstance(found, dict) and isinstance(due, dict):
        for name in sorted({*found, *due}):
            one, other, place = found.get(name, _MISSING), due.get(name, _MISSING), (*path, name)
            yield from differences(one, other, erased=erased, path=place, gone=erased and _is_gone(due, place))
    elif isinstance(found, list) and isinstance(due, list) and len(found) == len(due):
        for index, (one, other) in enumerate(zip(found, due, strict=True)):
            yield from differences(one, other, erased=erased, path=(*path, index))
    elif type(found) is not type(due) or found != due:
        yield Difference(path, is_erased=False)


def is_attempt(path: DocumentPath) -> bool:
    """Whether there is an attempt at a place of a bundle."""
    match path:
        case ("tasks", int(), "current_attempt") | ("tasks", int(), "attempts", int()):
            return True
        case ("branches", int(), "steps", int(), "attempts", int()):
            return True
        case _:
            return False


def _is_of_its_day(path: DocumentPath) -> bool:
    match path:
        case ("generated_at",) | ("log", "position"):
            return True
        case (*above, "artifacts", "exists"):
            return is_attempt(tuple(above))
        case _:
            return False


def _is_erased(due: Any, path: DocumentPath) -> bool:
    match path:
        case (*above, "artifacts", "path") if is_attempt(tuple(above)):  # of a root path and a relative one
            return isinstance(due, str) and ERASED_TEXT in PurePath(due).parts
        case _:
            return is_erased(due)


def _is_gone(parent: dict[str, Any], path: DocumentPath) -> bool:
    """Whether a place is a field of a task's specification that does not outlive erasing it."""
    match path:
        case ("tasks", int(), "spec", name):
            return name in parent and name not in SPEC_KEPT and is_erased_spec(parent)
        case _:
            return False
