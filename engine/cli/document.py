"""What the log holds as JSON for scripts.

Times are ISO 8601 in UTC with microseconds (`2026-01-31T12:00:00.000000Z`), hashes are 64 hexadecimal digits, and every
field is there, also at its default. JSON has no NaN and no infinities: they are the texts `"NaN"`, `"Infinity"` and
`"-Infinity"`, so that every JSON parser can read every line. Characters that a terminal would obey are `\\u` escapes.
"""

import json
import math
import sys
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET, Struct, structs

from engine.cli.escapes import json_visible
from engine.events import RecordedEvent
from engine.model import AttemptLog, StepLog


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
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case _:
            return value


def event_document(recorded: RecordedEvent) -> dict[str, Any]:
    """Return a recorded event: its envelope, its `type`, and its own fields under `event`."""
    return {"type": type(recorded.event).__name__, **plain(recorded)}


def step_document(branch: str, step: StepLog) -> dict[str, Any]:
    """Return a step with its attempts and the branch that it belongs to."""
    return {"branch": branch, **plain(step)}


def attempt_document(branch: str, attempt: AttemptLog) -> dict[str, Any]:
    """Return an attempt and the branch that it belongs to."""
    return {"branch": branch, **plain(attempt)}


def json_text(document: Any, *, indent: int | None = 2) -> str:
    """Return a document as JSON; without an `indent` it is one line."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(document, ensure_ascii=not utf8, allow_nan=False, indent=indent)
    return json_visible(text)


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """Write a document to the standard output, at once."""
    print(json_text(document, indent=indent), flush=True)  # noqa: T201 - the command's answer
