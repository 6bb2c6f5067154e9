"""Fixtures of the command's tests: each file of tests says by `recorded` which database there is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from engine.cli import main

Shown: TypeAlias = Callable[..., str]


@pytest.fixture
def shown(recorded: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    """Run a command that is to succeed, and return what it printed."""
    assert recorded.exists()

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def document(shown: Shown) -> Callable[..., Any]:
    """Run a command that is to succeed with `--json`, and return the document it printed."""
    return lambda *arguments: json.loads(shown(*arguments, "--json"))
