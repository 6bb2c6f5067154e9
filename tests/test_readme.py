"""What the README and the guides show is what happens."""

import re
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import engine

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SQL_GUIDE = (ROOT / "docs/sql.md").read_text()
RECORDING_GUIDE = (ROOT / "docs/recording.md").read_text()
HOSTS_GUIDE = (ROOT / "docs/hosts.md").read_text()
AUDITING_GUIDE = (ROOT / "docs/auditing.md").read_text()


def blocks(language: str, page: str = README) -> list[str]:
    """Return a page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def test_the_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    """The first example, copied out and run in an empty folder, prints the block below it."""
    example = tmp_path / "example.py"
    example.write_text(blocks("python")[0])
    ran = subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == blocks("text")[0]
    assert ran.stderr == ""


@pytest.mark.parametrize("at", [0, -1], ids=["several writes at once", "following events"])
def test_the_examples_of_recording_print_what_the_guide_says(tmp_path: Path, at: int) -> None:
    """Each whole example of the guide prints the block below it."""
    example = blocks("python", RECORDING_GUIDE)[at]
    ran = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == (blocks("text", RECORDING_GUIDE)[at], "")


_CRASHED = """
import asyncio
from engine import open_engine

async def main():
    async with open_engine("crashed.db") as engine:
        run = await engine.create_run("r")
        ended = await run.start_attempt("ended")
        await ended.finish("TIMED_OUT")
        await run.start_attempt("open")
        resumed = await run.start_attempt("resumed")
        await resumed.finish("FAILED", "node lost")
        await resumed.update(status="RUNNING")
{}
        print({{attempt.step: attempt.status for attempt in await run.attempts()}})

asyncio.run(main())
"""


def test_the_next_orchestrator_ends_every_attempt_that_was_left_open(tmp_path: Path) -> None:
    """The guide's lines for after a crash end open attempts, also resumed ones, and leave ended ones alone."""
    lines = textwrap.indent(blocks("python", RECORDING_GUIDE)[1], " " * 8)
    example = _CRASHED.format(lines)
    ran = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "{'ended': 'TIMED_OUT', 'open': 'FAILED', 'resumed': 'FAILED'}\n"


def test_the_sql_for_readers_of_the_file_runs(tmp_path: Path) -> None:
    """The guide's query shows what a branch sees and where it comes from."""
    example = tmp_path / "example.py"
    example.write_text(blocks("python")[0])
    subprocess.run([sys.executable, example], cwd=tmp_path, capture_output=True, check=True)
    connection = sqlite3.connect(tmp_path / "runs.db")
    rows = connection.execute(blocks("sql", SQL_GUIDE)[0]).fetchall()
    connection.close()
    assert [(name, value, branch) for name, value, _, branch, _ in rows] == [
        ("epochs", "3", "fit.a"),
        ("loss", "0.3", "fit.a"),
        ("lr", "0.1", ""),
    ]


def test_the_state_store_example_ends_in_the_explanation_shown(tmp_path: Path) -> None:
    """After the state store's example, `explain` prints what both guides show."""
    example = tmp_path / "example.py"
    example.write_text(next(block for block in blocks("python", HOSTS_GUIDE) if "SQLiteStateStore" in block))
    subprocess.run([sys.executable, example], cwd=tmp_path, check=True)
    command = [sys.executable, "-c", "from engine.cli import main; main(['explain', 'r3', '--db', 'state.db'])"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout in blocks("text", HOSTS_GUIDE)
    assert ran.stdout in blocks("text", AUDITING_GUIDE)


def test_the_examples_for_hosts_run_one_after_the_other(tmp_path: Path) -> None:
    """Each example of the guide for hosts runs in the folder that the examples before it left."""
    for example in blocks("python", HOSTS_GUIDE):
        ran = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert ran.stderr == ""


HANDLES = {"engine": engine.Engine, "run": engine.Run, "branch": engine.Branch, "attempt": engine.Attempt}


def test_the_methods_in_the_table_are_there() -> None:
    """A name without a handle before it is of the handle before."""
    (table,) = re.findall(r"^## The API$(.*?)^Writes through", README, flags=re.MULTILINE | re.DOTALL)
    handle, missing = "engine", []
    for name in re.findall(
        r"`([a-z_.]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)
    ):
        named, _, method = name.rpartition(".")
        handle = named or handle
        if not hasattr(HANDLES[handle], method):
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize(
    "page", [Path("README.md"), *(path.relative_to(ROOT) for path in ROOT.glob("docs/*.md"))], ids=str
)
def test_links_lead_to_files(page: Path) -> None:
    """Every relative link of a page leads to a file of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / page.parent / link).exists()] == []


def test_there_are_two_commands() -> None:
    """A newcomer needs two commands: `.ci/run` copies them from here."""
    assert len(re.findall(r"^python3 -m venv", README, flags=re.MULTILINE)) == 2
