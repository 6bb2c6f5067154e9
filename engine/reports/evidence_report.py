"""The report of a run's evidence, in Markdown. Text from the log is escaped, so that it cannot break a table."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from engine.model import Head, Origin, RunInfo

_CHARACTERS_MAX: Final = 200
_MARKUP: Final = re.compile(r"[\\`*_{}\[\]<>#|~&$@]|(?<=:)/(?=/)")


def report(bundle: dict[str, Any]) -> str:
    """Return the report on a bundle."""
    parts = [
        f"# Evidence of run {_escaped(bundle['run'].run_id)}",
        _table(("", ""), _facts(bundle)),
        "## Tasks",
        _tasks(bundle["tasks"]) if bundle["tasks"] else "The run has no tasks.",
        *_section("## Attempts at tasks", _attempts(bundle["tasks"])),
        *_section("## Other steps", _steps(bundle["branches"])),
        *_section("## Attempts at other steps", _attempts(_other_steps(bundle["branches"]))),
        "## Heads",
        "The last version and hash of every stream when this was written. Check them against the log with"
        " `anabranch export evidence RUN --check FOLDER`.",
        _table(("branch", "version", "hash"), map(_head, bundle["log"]["heads"])),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, table: str) -> Sequence[str]:
    return (title, table) if table else ()


def _facts(bundle: dict[str, Any]) -> Iterable[Sequence[object]]:
    info: RunInfo = bundle["run"]
    yield "status", info.status
    yield "reason", info.status_reason
    yield "workspace", info.workspace_slug
    yield "folder", info.root_path
    yield "about", info.description
    yield "tag", info.tag
    yield "tags", ", ".join(f"{name}={value}" for name, value in info.tags.items())
    yield "created", info.created_at
    yield "status since", info.status_changed_at
    yield "tasks", ", ".join(f"{count:,} {status}" for status, count in bundle["task_counts"].items()) or "none"
    yield "log position", bundle["log"]["position"]
    yield "written", bundle["generated_at"]


def _tasks(tasks: Sequence[dict[str, Any]]) -> str:
    headers = "branch", "task", "status", "now", "attempts", "operator", "external id", "depends on"
    return _table(headers, map(_task, tasks))


def _task(task: dict[str, Any]) -> Sequence[object]:
    attempt, external_run, spec = task["current_attempt"], task["external_run"], task["spec"]
    operator, external_id, now = spec.operator_key, None, None
    if attempt is not None:
        operator, external_id = attempt["operator_key"] or operator, attempt["external_id"]
        now = attempt["status"]
    elif external_run is not None:
        operator, external_id, now = external_run.operator_type, external_run.external_id, external_run.status
    dependencies = ", ".join(spec.dependencies)
    return (
        task["branch"], _name(task), task["status"], now, len(task["attempts"]), operator, external_id, dependencies,
    )  # fmt: skip


def _attempts(steps: Iterable[dict[str, Any]]) -> str:
    rows = [_attempt(step, attempt) for step in steps for attempt in step["attempts"]]
    headers = "branch", "task or step", "#", "status", "submitted", "ended", "artifacts", "reason"
    return _table(headers, rows) if rows else ""


def _attempt(step: dict[str, Any], attempt: dict[str, Any]) -> Sequence[object]:
    return (
        step["branch"],
        _name(step),
        attempt["attempt_index"],
        attempt["status"],
        attempt["submitted_at"],
        attempt["ended_at"],
        _artifacts(attempt["artifacts"]),
        attempt["status_reason"] or attempt["message"],
    )


def _artifacts(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["path"] is None:
        return "the run has no folder"
    seen = {True: "", False: " (missing)", None: " (not accessible)"}
    return f"{found['path']}{seen[found['exists']]}"


def _steps(branches: Sequence[dict[str, Any]]) -> str:
    rows = [
        (step["branch"], _name(step), step["status"], len(step["attempts"]), _last_reason(step))
        for step in _other_steps(branches)
    ]
    return _table(("branch", "step", "status", "attempts", "reason"), rows) if rows else ""


def _other_steps(branches: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (step for branch in branches for step in branch["steps"])


def _name(step: dict[str, Any]) -> str:
    """Return a step's name, and its origin if it is inherited."""
    origin: Origin | None = step["inherited_from"]
    if origin is None:
        return str(step["step"])
    return f"{step['step']} (inherited from {origin.run_id}, {origin.branch or '(root)'} {origin.stream_version})"


def _last_reason(step: dict[str, Any]) -> str | None:
    last = step["attempts"][-1] if step["attempts"] else {}
    reason: str | None = last.get("status_reason") or last.get("message") or step["status_reason"]
    return reason


def _head(head: Head) -> Sequence[object]:
    return head.branch or "(root)", head.stream_version, head.hash.hex()


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headers, ["---"] * len(headers), *([_cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        case _:
            text = str(value)
            return _escaped(text if len(text) <= _CHARACTERS_MAX else f"{text[: _CHARACTERS_MAX - 1]}…")


def _escaped(text: str) -> str:
    """Return a text in one line with Markdown's markup and hidden characters escaped."""
    visible = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return _MARKUP.sub(lambda found: f"\\{found[0]}", visible)
