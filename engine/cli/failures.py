"""How commands end: exit codes for scripts, and errors as one line.

    0    success
    1    an error (RunNotFound, DatabaseNotFound, …), or a check that found differences
    2    wrong usage
    130  interrupted (Ctrl-C)
    141  the reader of the output has closed it (as in `anabranch events RUN | head`)

An error is one line on standard error, `anabranch: Name: message`, or with `--json` one line of JSON,
`{"error": {"type": "Name", "message": "…"}}`. Standard output then holds nothing, or the lines written before it.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final

import typer

from engine.cli.document import json_text
from engine.cli.escapes import visible
from engine.errors import AnabranchError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
READER_GONE: Final = 141


def run(command: Coroutine[Any, Any, int | None], *, as_json: bool) -> None:
    """Run a command on an event loop of its own; unless it succeeds, exit with its exit code.

    Raises:
        typer.Exit
    """
    try:
        code = asyncio.run(_alone(command))
        sys.stdout.flush()
    except BrokenPipeError:
        code = leave_quietly()
    except AnabranchError as error:
        message = "; ".join([str(error), *getattr(error, "__notes__", [])])
        code = report(type(error).__name__, message, as_json=as_json)
    except RecursionError:
        code = report("NestedTooDeeply", "branches are nested too deeply to be written as JSON", as_json=as_json)
    if code:
        raise typer.Exit(code)


async def _alone(command: Coroutine[Any, Any, int | None]) -> int | None:
    # When several tasks fail, report only the first error, in one line.
    try:
        return await command
    except ExceptionGroup as group:
        raise first_error(group) from group


def first_error(error: Exception) -> Exception:
    """Return the first error inside nested groups, or the error itself."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def report(name: str, message: str, *, as_json: bool) -> int:
    """Write an error to standard error and return its exit code."""
    line = f"anabranch: {name}: {visible(message)}"
    if as_json:
        line = json_text({"error": {"type": name, "message": message}}, indent=None)
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the command's answer
    return FAILED


def report_unwritten(error: OSError, *, as_json: bool) -> int:
    """`report` for an error that standard output itself may have caused; its unwritten output is discarded."""
    code = report(type(error).__name__, str(error), as_json=as_json)
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    return code


def leave_quietly() -> int:
    """Discard the remaining output, and return the exit code for a reader that has closed it."""
    _discard_output()
    return READER_GONE


def _discard_output() -> None:
    # Otherwise Python's flush of standard output at exit would fail and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
