"""Names given by callers: of runs, branches, steps, parameters, attempts and idempotency keys.

A name is any printable Unicode text of 1 to 512 bytes in UTF-8. Map branches are named after arbitrary values, such as
`map.0.5` or `map.[1, 2]`, so dots carry no structure: a branch's parent is what its fork event says. Names are compared
by code point, without normalisation, so look-alikes are different names.

The root branch is `""`; callers may also pass `None`.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from engine.errors import InvalidName

NAME_BYTES_MAX = 512
ROOT = ""

# Control, format (bidi overrides, zero-width), surrogate, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_hidden(character: str) -> bool:
    """Return whether a character is invisible, or could control a terminal."""
    return unicodedata.category(character) in _HIDDEN


def check_name(value: object, what: str) -> str:
    """Return `value` if it is a valid name, else raise `InvalidName`.

    Args:
        value: the candidate.
        what: the thing it names, for the message: "run id", "branch name", …
    """
    if not isinstance(value, str):
        raise InvalidName(what, value, f"is {type(value).__name__}, not text")
    # Convert subclasses of str: the cache would return their instance for every later equal name.
    return _checked(str.__str__(value), what)


@lru_cache(maxsize=8192)
def _checked(value: str, what: str) -> str:
    if not value:
        raise InvalidName(what, value, "is empty")
    if not (value.isascii() and value.isprintable()):
        for index, character in enumerate(value):
            if is_hidden(character):
                raise InvalidName(what, value, f"has the unprintable character {character!r} at index {index}")
    size = len(value.encode())
    if size > NAME_BYTES_MAX:
        raise InvalidName(what, value, f"is {size} bytes long; the limit is {NAME_BYTES_MAX}")
    return value


def check_key(idempotency_key: str | None) -> str | None:
    """Return a valid idempotency key, or None.

    Raises:
        InvalidName
    """
    return None if idempotency_key is None else check_name(idempotency_key, "idempotency key")


def check_branch(value: object) -> str:
    """Return a valid branch name; `None` and `""` both mean the root branch."""
    if value is None or value == ROOT:
        return ROOT
    return check_name(value, "branch name")


def child_branch(parent: str, name: object) -> str:
    """Return the full name of the branch `name` below `parent`."""
    own = check_name(name, "branch name")
    return check_name(f"{parent}.{own}", "branch name") if parent else own


def dotted_prefixes(name: str) -> Iterator[str]:
    """Yield the prefixes of a name before each dot, longest first: `a.b` and `a` for `a.b.c`."""
    end = name.rfind(".")
    while end > 0:
        yield name[:end]
        end = name.rfind(".", 0, end)
