"""The root of the error tree, and how messages show what callers gave."""

from datetime import datetime

_SHOWN_CHARACTERS_MAX = 80


def shown(value: object) -> str:
    """Return `value` as it may stand in a message: escaped, cut when it is long, and a time as ISO 8601 has it."""
    try:
        text = value.isoformat() if isinstance(value, datetime) else ascii(value)
    except Exception:  # noqa: BLE001 - nested too deep, or of a caller's class: the error is not to be lost over it
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}…"


class AnabranchError(Exception):
    """The root of the tree."""
