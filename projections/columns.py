"""The representation of values in the view tables: JSON as text, times as UTC text, booleans as 0 and 1, positions."""

import json
import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from engine.model import Parameter

_JSON = msgspec.json.Encoder(order="deterministic")
_from_json = msgspec.json.Decoder().decode
_TIME_CHARACTERS = len("YYYY-MM-DD HH:MM:SS.ffffff")


def to_json(value: Any) -> str:
    """Encode a value as JSON text with mappings in key order, so that equal values have equal text.

    NaN and the infinities become JSON5's `NaN`, `Infinity` and `-Infinity`, which SQLite reads from 3.42 on.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    text = _JSON.encode(value)
    # msgspec also writes null for a NaN inside a list or a mapping. `find` is faster than `in` on bytes.
    if text.find(b"null") >= 0:
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.decode()


def from_json(text: str) -> Any:
    """Decode the text of `to_json`."""
    try:
        return _from_json(text)
    except msgspec.DecodeError:  # NaN, Infinity
        return json.loads(text)


def parameters_to_json(values: dict[str, Parameter]) -> str | None:
    """Encode parameters as one JSON text, None if there are none."""
    return to_json({name: [value.kind, value.value] for name, value in values.items()}) if values else None


def parameters_from_json(text: str | None) -> dict[str, Parameter]:
    """Decode the text of `parameters_to_json`."""
    return {name: Parameter(value, kind) for name, (kind, value) in from_json(text).items()} if text else {}


_CARRIED: Final = -(1 << 48)


def carried_position(place: int) -> int:
    """Return the position of a carried-over row: negative, and thus before those of the run's own rows."""
    return _CARRIED + place


def to_text(moment: datetime) -> str:
    """Encode a time as UTC text: `YYYY-MM-DD HH:MM:SS.ffffff`."""
    return _utc_to_text(moment if moment.tzinfo is UTC else moment.astimezone(UTC))


@lru_cache(maxsize=1024)  # the events of a batch share one time
def _utc_to_text(moment: datetime) -> str:
    return moment.isoformat(" ", "microseconds")[:_TIME_CHARACTERS]


def from_text(text: str) -> datetime:
    """Decode the text of `to_text` as an aware time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
