"""JSON output for scripts: values as in `engine.encoding.plain_json`, control characters as escapes."""

import json
import sys
from typing import Any

from engine.cli.escapes import json_visible
from engine.encoding.plain_json import plain
from engine.events import RecordedEvent
from engine.model import AttemptLog, StepLog


def event_document(recorded: RecordedEvent) -> dict[str, Any]:
    """Return a recorded event: its `type`, its envelope, and its own fields under `event`."""
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
    """Write a document to standard output and flush it."""
    print(json_text(document, indent=indent), flush=True)  # noqa: T201 - the command's answer
