"""The root of the error tree, and how messages show what callers gave."""

from collections.abc import Callable
from datetime import datetime
from pathlib import PurePath
from typing import Any

from typing_extensions import override

_SHOWN_CHARACTERS_MAX = 80
_HEAD, _TAIL = 50, 30
"""Of a long text, what is shown of its beginning and of its end: names that begin alike often differ at their ends."""


def shown(value: object) -> str:
    """Return `value` as it may stand in a message: what cannot be printed escaped, its middle left out when it is long.

    A path is shown whole, since it is there to be opened, and a time as ISO 8601 has it.
    """
    try:
        if isinstance(value, PurePath):
            return repr(str(value))
        if isinstance(value, str | bytes | bytearray) and len(value) > _SHOWN_CHARACTERS_MAX:
            # A message about a huge one costs no more than about a small one.
            return f"{repr(value[:_HEAD])[:_HEAD]}…{repr(value[-_TAIL:])[-_TAIL:]}"
        text = value.isoformat() if isinstance(value, datetime) else _printable(repr(value))
    except Exception:  # noqa: BLE001 - nested too deep, or of a caller's class: the error is not to be lost over it
        return f"<{type(value).__name__}>"
    if len(text) <= _SHOWN_CHARACTERS_MAX:
        return text
    return f"{text[:_HEAD]}…{text[-_TAIL:]}"


def _printable(text: str) -> str:
    # What Python's own types show is, of a caller's class nobody knows.
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class AnabranchError(Exception):
    """The root of the tree. Picklable, so that what is raised in a worker process arrives in the one that waits."""

    @override
    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        # An exception is unpickled by calling its class with its message, and these take facts instead.
        return _again, (type(self), self.args, self.__dict__)


def _again(error_type: type[BaseException], args: tuple[Any, ...], facts: dict[str, Any]) -> BaseException:
    error = error_type.__new__(error_type, *args)
    error.__dict__.update(facts)
    return error
