"""The arguments and options that commands share."""

import re
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final

import typer

from engine import Point, Position
from engine.cli.database import DEFAULT_DATABASE
from engine.cli.escapes import visible


def _nearest(context: typer.Context, parameter: typer.CallbackParam, value: Path) -> Path:
    # A --db after the command takes precedence over one before it, and both over the environment.
    given = context.get_parameter_source(str(parameter.name))
    in_front: Path | None = context.obj
    return value if in_front is None or (given is not None and given.name == "COMMANDLINE") else in_front


Database = Annotated[
    Path,
    typer.Option(
        "--db",
        envvar="ANABRANCH_DB",
        metavar="PATH",
        help="The database file.",
        show_default=str(DEFAULT_DATABASE),
        callback=_nearest,
    ),
]
DatabaseInFront = Annotated[
    Path | None,
    typer.Option("--db", metavar="PATH", help="The database file; may also follow the command.", show_default=False),
]


def _print_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"anabranch {metadata.version('anabranch')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Print the version.", is_eager=True, callback=lambda value: _print_version(wanted=value)
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
BranchName = Annotated[
    str | None,
    typer.Option("--branch", metavar="BRANCH", help="The branch's full name; '' is the root.", show_default=False),
]
Statuses = Annotated[
    str | None, typer.Option("--status", metavar="STATUS", help="Only those with this status.", show_default=False)
]
EventTypes = Annotated[
    list[str] | None, typer.Option("--type", metavar="TYPE", help="Only this type (ParametersSet); repeatable.")
]
EventStep = Annotated[
    str | None, typer.Option("--step", metavar="STEP", help="Only events of this step or task.", show_default=False)
]
EventStatus = Annotated[
    str | None, typer.Option("--status", metavar="STATUS", help="Only events that set this status.", show_default=False)
]
AtPoint = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="POINT",
        help="A stream version (17), a log position (p123), a time (ISO 8601, UTC) or an age (2h).",
        show_default=False,
    ),
]

_DIGITS_MAX: Final = 18
_AGE_DIGITS_MAX: Final = 6
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def as_time(text: str) -> datetime:
    """Parse an ISO 8601 time; without a zone it is in UTC, as in the output of every command.

    Raises:
        typer.BadParameter
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an ISO 8601 time, such as 2026-01-31T12:00 (UTC)") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def as_age(text: str) -> timedelta | datetime:
    """Parse an age, such as `30d`, or else a time.

    Raises:
        typer.BadParameter
    """
    match = re.fullmatch(r"([0-9]+)([smhdw])", text)
    if match is not None:
        if len(match[1]) > _AGE_DIGITS_MAX:
            raise typer.BadParameter(f"{visible(repr(text))} is more than 999,999 {_UNITS[match[2]]}")
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return as_time(text)
    except typer.BadParameter as error:
        raise typer.BadParameter(
            f"{visible(repr(text))} is neither an age (30s, 90m, 12h, 30d, 4w) nor an ISO 8601 time"
        ) from error


def as_time_or_ago(text: str) -> datetime:
    """Parse a time; an age is that long before now.

    Raises:
        typer.BadParameter
    """
    found = as_age(text)
    if isinstance(found, datetime):
        return found
    try:
        return datetime.now(UTC) - found
    except OverflowError as error:
        raise typer.BadParameter(f"{visible(repr(text))} ago is before the year 1") from error


def as_point(text: str | None) -> Point:
    """Parse a point: a stream version, `p` and a number for a position, a time, or an age; None is now.

    Raises:
        typer.BadParameter
    """
    if text is None:
        return None
    number = text.removeprefix("p")
    if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS_MAX):
        return as_time_or_ago(text)
    if number == text:
        return int(number)
    if int(number) == 0:
        raise typer.BadParameter(f"{text!r} is not a position: the first one is p1")
    return Position(int(number))
