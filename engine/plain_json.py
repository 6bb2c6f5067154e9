"""What the log holds as values that `json` can write.

Times are ISO 8601 in UTC with microseconds (`2026-01-31T12:00:00.000000Z`), hashes are hexadecimal, and every field is
there, also at its default. JSON has no NaN and no infinities: they are the texts `"NaN"`, `"Infinity"` and
`"-Infinity"`, so that every JSON parser can read every line.
"""

import math
from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, structs

from engine.times import iso_text


def plain(value: Any, *, finite: bool = True) -> Any:
    """Return structs, bytes, times and what is in them as what `json` can write.

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
