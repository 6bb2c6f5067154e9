"""Every command of the command line with arguments that it accepts, found by inspecting the typer app."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import typer.main
from msgspec import Struct

from engine.cli.app import app

Words: TypeAlias = tuple[str, ...]

COMMANDS: Final[dict[Words, dict[str, str]]] = {
    ("demo",): {},
    ("runs",): {},
    ("show",): {"run_id": "r1"},
    ("tree",): {"run_id": "r1"},
    ("diff",): {"a": "r1", "b": "r1@3"},
    ("fork",): {"run_id": "r1", "new_id": "new"},
    ("events",): {"run_id": "r1"},
    ("params",): {"run_id": "r1"},
    ("blame",): {"run_id": "r1", "name": "lr"},
    ("steps",): {"run_id": "r1"},
    ("attempts",): {"run_id": "r1"},
    ("tasks",): {"run_id": "r1"},
    ("explain",): {"run_id": "r1"},
    ("import",): {"file": "missing.jsonl"},
    ("verify",): {},
    ("checkpoint",): {},
    ("backup",): {"to": "copy.db"},
    ("rebuild",): {},
    ("erase",): {"run_id": "r1", "version": "2", "reason": "why", "yes": ""},
    ("pin",): {"run_id": "r1"},
    ("unpin",): {"run_id": "r1"},
    ("delete",): {"run_id": "r1", "reason": "why", "yes": ""},
    ("gc",): {"older_than": "30d", "dry_run": ""},
    ("compact",): {},
    ("doctor",): {},
    ("export", "runs"): {"run_ids": "r1"},
    ("export", "evidence"): {"run_id": "r1", "to": "evidence", "force": ""},
}
"""The arguments that each command requires, or needs to end; a flag is given as `""`."""

ENDLESS: Final[set[Words]] = {("tail",)}
"""Commands that run until interrupted. `test_cli_tail.py` tests them; they print what `events` prints."""


class Place(Struct, frozen=True):
    """An argument or option of a command, identified by its name."""

    command: Words
    name: str


def commands() -> dict[Words, Any]:
    """Return every command by its words."""
    return dict(_commands(typer.main.get_command(app), ()))


def _commands(found: Any, words: Words) -> Iterator[tuple[Words, Any]]:
    if not hasattr(found, "commands"):
        yield words, found
        return
    for name, below in found.commands.items():
        yield from _commands(below, (*words, name))


def places() -> list[Place]:
    """Return every argument and option that takes a value, of every command that ends by itself."""
    return [
        Place(words, parameter.name)
        for words, command in commands().items()
        if words not in ENDLESS
        for parameter in command.params
        if not _is_flag(parameter)
    ]


def command_line(words: Words, given: Mapping[str, str]) -> list[str]:
    """Return a command with its required and the given arguments; no positional value is read as an option."""
    arguments = {**COMMANDS[words], **given}
    options, behind = list[str](), list[str]()
    for parameter in commands()[words].params:
        if parameter.name not in arguments:
            continue
        if parameter.param_type_name == "argument":
            behind.append(arguments[parameter.name])
        elif _is_flag(parameter):
            options.append(parameter.opts[0])
        else:
            options.append(f"{parameter.opts[0]}={arguments[parameter.name]}")
    return [*words, *options, *(["--", *behind] if behind else [])]


def _is_flag(parameter: Any) -> bool:
    return parameter.type_descriptor.annotation is bool
