"""Values of the log as text that is safe to print: it cannot move the cursor, or colour or reorder a line."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from engine.cli.escapes import visible
from engine.encoding.plain_json import plain
from engine.findings import Problem
from engine.model import COMPLETED, CREATED, FAILED, FAILED_INIT, RUNNING, Parameter
from engine.names import ROOT

_STYLES: Final = {
    COMPLETED: "green",
    "SUCCESS": "green",
    FAILED: "red",
    "FAIL": "red",
    FAILED_INIT: "red",
    RUNNING: "yellow",
    CREATED: "cyan",
}

CHARACTERS_MAX: Final = 80
"""How many characters of a value, or of a list of names, are shown; `--json` has all of them."""


def cell(value: object, style: str = "") -> Text:
    """Return a value as a one-line table cell, cut with an ellipsis at the column's width. Markup in it stays text."""
    return Text("" if value is None else visible(str(value)), style=style, no_wrap=True, overflow="ellipsis")


def status(name: str) -> Text:
    """Return a status in its colour."""
    return cell(name, _STYLES.get(name, ""))


def branch_cell(name: str) -> Text:
    """Return a branch's name; the root branch, whose name is empty, is shown as `(root)`."""
    return cell("(root)", "dim") if name == ROOT else cell(name)


def branch_text(name: str) -> str:
    """`branch_cell` as plain text."""
    return "(root)" if name == ROOT else visible(name)


def value_text(value: Any, characters_max: int = CHARACTERS_MAX) -> str:
    """Return a JSON value in one line, cut to `characters_max`. NaN and the infinities are not quoted."""
    text = visible(json.dumps(plain(value, finite=False), ensure_ascii=False))
    return shortened(text, characters_max)


def shortened(text: str, characters_max: int = CHARACTERS_MAX) -> str:
    """Return a text with its end cut off if it is longer than `characters_max`."""
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"


def shortened_inside(text: str, cells_max: int) -> str:
    """Return a text with its middle cut out if it is wider than that: similar names often differ at their ends."""
    if cell_len(text) <= cells_max:
        return text
    head = (cells_max - 1) // 3
    return f"{_begin(text, head)}…{_begin(text[::-1], cells_max - 1 - head)[::-1]}"


def _begin(text: str, cells: int) -> str:
    return set_cell_size(text, cells).rstrip(" ")


def parameter_text(parameter: Parameter, characters_max: int = CHARACTERS_MAX) -> str:
    """Return a parameter's value as `value_text` does, or `(erased)`."""
    return "(erased)" if parameter.kind == "erased" else value_text(parameter.value, characters_max)


def parameters_text(values: dict[str, Parameter], characters_max: int = 60) -> str:
    """Return `name=value` pairs in one line, each value cut to `characters_max`."""
    return " ".join(f"{visible(name)}={parameter_text(each, characters_max)}" for name, each in values.items())


def time_text(moment: datetime | None) -> str:
    """Return a time in UTC to the second."""
    # strftime gives the year 1 one digit.
    return "" if moment is None else moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


def clock_text(moment: datetime) -> str:
    """Return the time of day in UTC to the millisecond."""
    return moment.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def duration_text(seconds: float) -> str:
    """Return a duration in a suitable unit."""
    # The limits are where rounding would give 1000 ms or 60.00 s.
    if seconds < 0.9995:  # noqa: PLR2004 - as above
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:  # noqa: PLR2004 - as above
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, left = divmod(hours, 24)
    if days:
        return f"{days:,} d {left} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def elapsed_text(began: datetime, ended: datetime) -> str:
    """Return how long something took; empty if that is negative: a clock was set back, or a time was given wrong."""
    return "" if ended < began else duration_text((ended - began).total_seconds())


def so_far_text(began: datetime, now: datetime) -> str:
    """Return how long something unfinished has taken, such as `3.20 s so far`."""
    elapsed = elapsed_text(began, now)
    return f"{elapsed} so far" if elapsed else ""


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Return `1 branch`, `2 branches`, `1,234 events`."""
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def none_found(
    said: str, *, status: str | None = None, branch: str | None = None, step: str | None = None, tag: str | None = None
) -> str:
    """Return a message for an empty result that repeats the filters, such as `no attempts at fit that are FAILED`."""
    at = "" if step is None else f" at {visible(step)}"
    tagged = "" if tag is None else f" tagged {visible(tag)}"
    wanted = "" if status is None else f" that are {visible(status)}"
    where = "" if branch is None else f" in branch {branch_text(branch)}"
    # Statuses are case-sensitive, and hosts usually write them in capitals.
    hint = "" if status is None or status == status.upper() else f"; did you mean {visible(status.upper())}?"
    return f"{said}{at}{tagged}{wanted}{where}{hint}"


def place_of(problem: Problem) -> str:
    """Return the place of a problem, such as `run r1, branch a, version 4, position 17`, or `the store`."""
    where = []
    if problem.run_id is not None:
        where.append(f"run {visible(problem.run_id)}")
    if problem.branch is not None:
        where.append(f"branch {branch_text(problem.branch)}")
    if problem.stream_version is not None:
        where.append(f"version {problem.stream_version}")
    if problem.position is not None:
        where.append(f"position {problem.position}")
    return ", ".join(where) or "the store"
