"""Recorded data as values that `json` can serialise.

Times are ISO 8601 in UTC with microseconds (`2026-01-31T12:00:00.000000Z`), hashes are hexadecimal, and fields that
hold their default are included. JSON has no NaN or infinities: they become the texts `"NaN"`, `"Infinity"` and
`"-Infinity"`, so that every JSON parser can read every line.
"""

import math
from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, structs

from engine.times import iso_text


def plain(value: Any, *, finite: bool = True) -> Any:
    """Convert structs, bytes and times, recursively, to values that `json` can serialise.

    Args:
        finite: turn NaN and the infinities into texts.
    """
    match value:
        case Struct():
            fields = structs.asdict(value).items()
            return {name: plain(field, finite=finite) for name, field in fields if field is not UNSET}
        case dict():
            return {name: plain(member, finite=finite) for name, member in value.items()}
        case list() | tuple():
            return [plain(member, finite=finite) for member in value]
        case float() if finite and not math.isfinite(value):
            return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
        case _:
            return _scalar(value)


def _scalar(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case datetime():
            return iso_text(value)
        case _:
            return value
