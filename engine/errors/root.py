"""The root of the error tree, and the formatting of values in messages."""

from collections.abc import Callable
from datetime import datetime
from pathlib import PurePath
from typing import Any

from typing_extensions import override

_SHOWN_CHARACTERS_MAX = 80
_HEAD, _TAIL = 50, 30
"""The characters shown of a long text's beginning and end: names with the same beginning often differ at the end."""


def shown(value: object) -> str:
    """Format `value` for a message: with unprintable characters escaped, and the middle of a long text left out.

    A path is shown whole, so that it can be opened, and a time in ISO 8601.
    """
    try:
        if isinstance(value, PurePath):
            return repr(str(value))
        if isinstance(value, str | bytes | bytearray) and len(value) > _SHOWN_CHARACTERS_MAX:
            # Cut before `repr`, so that a huge value costs no more than a small one.
            return f"{repr(value[:_HEAD])[:_HEAD]}…{repr(value[-_TAIL:])[-_TAIL:]}"
        text = value.isoformat() if isinstance(value, datetime) else _printable(repr(value))
    except Exception:  # noqa: BLE001 - too deeply nested, or a caller's broken __repr__: still report the error itself
        return f"<{type(value).__name__}>"
    if len(text) <= _SHOWN_CHARACTERS_MAX:
        return text
    return f"{text[:_HEAD]}…{text[-_TAIL:]}"


def _printable(text: str) -> str:
    # Python's own types are printable already; a caller's `__repr__` may return anything.
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class AnabranchError(Exception):
    """The root of the tree. Picklable, so that errors can cross from worker processes."""

    @override
    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        # By default an exception is unpickled by calling its class with its message, but these classes take facts.
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(error_type: type[BaseException], args: tuple[Any, ...], facts: dict[str, Any]) -> BaseException:
    error = error_type.__new__(error_type, *args)
    error.__dict__.update(facts)
    return error
