"""The root of the error tree, and how messages show what callers gave."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from typing_extensions import override

_SHOWN_CHARACTERS_MAX = 80


def shown(value: object) -> str:
    """Return `value` as it may stand in a message: escaped, cut when it is long, and a time as ISO 8601 has it."""
    if isinstance(value, str | bytes | bytearray):
        value = value[: _SHOWN_CHARACTERS_MAX + 1]  # a message about a huge one costs no more than about a small one
    try:
        text = value.isoformat() if isinstance(value, datetime) else ascii(value)
    except Exception:  # noqa: BLE001 - nested too deep, or of a caller's class: the error is not to be lost over it
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}…"


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
