"""How commands end: exit codes, errors of one line, readers that go away, interrupts."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from engine import Engine, open_engine
from engine.cli import main
from engine.commands import Fork, OpenRun
from engine.ports import ViewDifference
from tests.integration.command_lines import Words, commands

_COMMAND = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())"]


@pytest.fixture
async def recorded(database: Path) -> Path:
    """A database with one run."""
    async with open_engine(database) as engine:
        await engine.create_run("r1", parameters={"lr": 0.1})
    return database


async def _set_running(database: Path) -> None:
    async with open_engine(database) as engine:
        await (await engine.run("r1")).set_status("RUNNING")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["show", "r9"], "anabranch: RunNotFound: no run 'r9'\n"),
        (["tree", "r9"], "anabranch: RunNotFound: no run 'r9'\n"),
        (["params", "r1", "--branch", "b"], "anabranch: BranchNotFound: no branch 'b' in run 'r1'\n"),
        (["events", "r1", "--branch", "b"], "anabranch: BranchNotFound: no branch 'b' in run 'r1'\n"),
        (["steps", "r9"], "anabranch: RunNotFound: no run 'r9'\n"),
        (["attempts", "r9"], "anabranch: RunNotFound: no run 'r9'\n"),
        (["events", "r9", "--follow"], "anabranch: RunNotFound: no run 'r9'\n"),
    ],
)
def test_an_error_is_one_line_with_its_name(
    recorded: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    """A missing run or branch ends a command with exit code 1 and one line on standard error only."""
    assert main([*arguments, "--db", str(recorded)]) == 1
    assert capsys.readouterr() == ("", error)


def test_an_error_is_json_when_asked(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` an error is a JSON document."""
    assert main(["params", "r1", "--at", "9", "--json", "--db", str(recorded)]) == 1
    assert json.loads(capsys.readouterr().err)["error"]["type"] == "PointNotFound"


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_takes_json(words: Words) -> None:
    """Every command has the option `--json`."""
    assert any("--json" in parameter.opts for parameter in commands()[words].params)


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "--unknown"],
        ["runs", "--since", "yesterday"],
        ["runs", "--limit", "0"],
        ["params", "r1", "--at", "first"],
        ["show"],
        ["unknown"],
        ["demo", "/nowhere/at/all"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """A command line that cannot be understood ends with exit code 2 and UsageError, as text or as JSON."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("anabranch: UsageError: ")

    assert main([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["type"] == "UsageError"


@pytest.mark.parametrize("command", [["runs"], ["show", "r1"], ["events", "r1", "--follow"], ["rebuild"]])
def test_reading_creates_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """A command that reads raises DatabaseNotFound for a missing file, and creates nothing."""
    monkeypatch.chdir(tmp_path)

    assert main(command) == 1
    assert "DatabaseNotFound: cannot open 'anabranch.db'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file raises DatabaseNotFound and stays empty."""
    empty = tmp_path / "empty.db"
    empty.touch()

    assert main(["runs", "--db", str(empty)]) == 1
    assert "DatabaseNotFound" in capsys.readouterr().err
    assert empty.stat().st_size == 0


def test_a_file_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no database raises NotADatabase."""
    other = tmp_path / "notes.txt"
    other.write_text("not a database, and longer than a header would be" * 4)

    assert main(["runs", "--db", str(other)]) == 1
    assert "anabranch: NotADatabase: cannot open" in capsys.readouterr().err


def test_the_option_goes_before_the_environment(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--db` takes precedence over `ANABRANCH_DB`."""
    monkeypatch.setenv("ANABRANCH_DB", "/nowhere/runs.db")

    assert main(["runs", "--json", "--db", str(recorded)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["run_id"] == "r1"


def test_the_option_may_stand_on_either_side_of_the_command(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--db` before the command takes precedence over the environment, and `--db` after it over both."""
    monkeypatch.setenv("ANABRANCH_DB", str(tmp_path / "missing-1.db"))
    assert main(["--db", str(recorded), "runs"]) == 0
    assert main(["--db", str(tmp_path / "missing-2.db"), "runs", "--db", str(recorded)]) == 0
    assert capsys.readouterr().err == ""


def test_differing_views_are_exit_code_1(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rebuild` exits with 1 when its check finds that the views differ from the events."""

    async def differ(*_: object) -> list[ViewDifference]:
        return [ViewDifference("runs", 1, 2)]

    monkeypatch.setattr(Engine, "verify_views", differ)

    assert main(["rebuild", "--db", str(recorded)]) == 1
    assert "runs: 1 rows missing, 2 unexpected" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["tree", "deep", "--json"], ["export", "runs", "deep", "--format", "json"]])
def test_nesting_too_deep_for_json_is_a_one_line_error(
    database: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Branches nested too deeply for JSON raise NestedTooDeeply as JSON; `tree` still draws them."""
    names = [f"b{level}" for level in range(sys.getrecursionlimit())]
    opening = [Fork(branch=name, parent=parent) for name, parent in zip(names, ["", *names], strict=False)]

    async def record() -> None:
        async with open_engine(database) as engine:
            await engine.write("deep", OpenRun(), *opening)

    asyncio.run(record())
    assert main([*command, "--db", str(database)]) == 1
    assert capsys.readouterr().err.count("NestedTooDeeply") == 1
    assert main(["tree", "deep", "--db", str(database)]) == 0


def test_a_closed_pipe_ends_a_command_quietly(recorded: Path) -> None:
    """A closed pipe on standard output, as in `| head`, ends a command silently with exit code 141."""
    reading, writing = os.pipe()
    os.close(reading)

    for options in ([], ["--json"]):
        done = subprocess.run(
            [*_COMMAND, "events", "r1", "--db", str(recorded), *options],
            stdout=writing, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (141, b"")
    os.close(writing)


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", [["runs"], ["runs", "--json"], ["export", "r1"], ["--help"]], ids=" ".join)
def test_an_output_that_cannot_be_written_is_an_error(
    recorded: Path, command: list[str], environment: dict[str, str]
) -> None:
    """A full disk behind standard output ends a command with exit code 1 and one line of error, as JSON if asked."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*_COMMAND, *command],
            stdout=full, stderr=subprocess.PIPE, check=False,
            env={**os.environ, "ANABRANCH_DB": str(recorded), **environment},
        )  # fmt: skip
    assert (done.returncode, done.stderr.count(b"\n"), done.stderr.count(b"No space left")) == (1, 1, 1)
    assert done.stderr.startswith(b"{") is ("--json" in command)


@pytest.mark.parametrize("command", [["runs"], ["runs", "--json"], ["export", "r1"], ["nothing"]], ids=" ".join)
def test_closed_streams_are_harmless(recorded: Path, command: list[str]) -> None:
    """A command with closed standard streams ends as usual, and writes no output into the database file."""
    before = recorded.read_bytes()
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *_COMMAND, *command],
        capture_output=True, check=False, env={**os.environ, "ANABRANCH_DB": str(recorded)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (2 if command == ["nothing"] else 0, b"", b"")
    assert recorded.read_bytes() == before


def test_an_unbuffered_output_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that accepts only a part of each write still receives everything."""

    class Sip(io.RawIOBase):
        """An output that accepts seven bytes at a time, like a slow reader's pipe."""

        written = b""

        @override
        def writable(self) -> bool:
            return True

        @override
        def write(self, data: Any, /) -> int:
            self.written += bytes(data[:7])
            return len(data[:7])

    sip = Sip()
    unbuffered = io.TextIOWrapper(sip, encoding="utf-8", write_through=True)  # type: ignore[type-var]
    for name, stream in (("stdin", None), ("stdout", unbuffered), ("stderr", None)):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "argv", ["anabranch", "--version"])
    assert main() == 0
    assert sip.written.decode() == f"anabranch {metadata.version('anabranch')}\n"
    for opened in (sys.stdin, sys.stderr):
        opened.close()


def test_following_shows_what_another_process_records(recorded: Path) -> None:
    """`events --follow` prints past events, then those of other processes; SIGINT ends it silently with 130."""
    follower = subprocess.Popen(
        [*_COMMAND, "events", "r1", "--follow", "--json", "--db", str(recorded)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert follower.stdout is not None
    assert [json.loads(follower.stdout.readline())["type"] for _ in range(2)] == ["RunCreated", "ParametersSet"]

    asyncio.run(_set_running(recorded))

    assert json.loads(follower.stdout.readline())["event"]["status"] == "RUNNING"
    follower.send_signal(signal.SIGINT)
    rest, complaints = follower.communicate()
    assert (follower.returncode, rest, complaints) == (130, b"", b"")


def on_terminal(command: list[str], **environment: str) -> bytes:
    """Return what a command that prints little writes to a terminal."""
    leader, terminal = os.openpty()
    subprocess.run(command, stdout=terminal, env={**os.environ, "TERM": "xterm", **environment}, check=True)
    os.close(terminal)
    try:
        return os.read(leader, 65536)
    finally:
        os.close(leader)


def test_colours_are_for_terminals(recorded: Path) -> None:
    """A terminal gets colours unless `NO_COLOR` is set; a pipe gets no escape codes."""
    command = [*_COMMAND, "runs", "--db", str(recorded)]
    coloured = b"\x1b[36mCREATED"

    assert coloured in on_terminal(command)
    assert coloured not in on_terminal(command, NO_COLOR="1")
    assert b"\x1b[" not in subprocess.run(command, capture_output=True, check=True).stdout


def test_an_export_on_a_terminal_leaves_it_as_it_was(recorded: Path) -> None:
    """An export to a terminal contains no escape codes: no progress bar, no hidden cursor."""
    shown = on_terminal([*_COMMAND, "export", "r1", "--db", str(recorded)])
    assert shown.startswith(b'{"line":"header"')
    assert b"\x1b" not in shown


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`anabranch --version` prints the version of the installed distribution."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"anabranch {metadata.version('anabranch')}\n"
