"""`anabranch tail`: what it shows, what it waits for, and where it says to go on."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.cli import main
from engine.errors import ReadFailed

_COMMAND = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())"]


def use(database: Path, work: Callable[[Engine], Awaitable[Any]]) -> None:
    """Do some work on an engine that is opened and closed for it."""

    async def on_engine() -> None:
        async with open_engine(database) as engine:
            await work(engine)

    asyncio.run(on_engine())


async def _record(engine: Engine) -> None:
    run = await engine.create_run("r1", parameters={"lr": 0.1})
    branch = await run.fork("fit")
    async with branch.attempt("train"):
        pass
    await engine.create_run("r2")


@pytest.fixture
def recorded(database: Path) -> Path:
    """A database of seven events in two runs."""
    use(database, _record)
    return database


class Tail:
    """An `anabranch tail` in a process of its own."""

    def __init__(self, database: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*_COMMAND, "tail", "--db", str(database), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def next(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def events(self, count: int) -> list[tuple[str, int, str]]:
        """Read the next events as JSON; return run, position and type of each."""
        lines = [json.loads(self.next()) for _ in range(count)]
        return [(line["run_id"], line["position"], line["type"]) for line in lines]

    def interrupt(self) -> tuple[int, str, str]:
        """Interrupt the process; return its exit code and the rest of its output and errors."""
        self.process.send_signal(signal.SIGINT)
        rest, complaints = self.process.communicate()
        return self.process.returncode, rest.decode(), complaints.decode()


@pytest.fixture
def tail(recorded: Path) -> Iterator[Callable[..., Tail]]:
    started = list[Tail]()

    def start(*arguments: str) -> Tail:
        started.append(Tail(recorded, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


async def _set_running(engine: Engine) -> None:
    await (await engine.run("r1")).set_status("RUNNING")


def test_every_run_is_followed(tail: Callable[..., Tail], recorded: Path) -> None:
    """`tail` shows the last events of all runs, then new ones of other processes.

    Interrupted, it prints the position to go on after.
    """
    follower = tail("--json", "--lines", "2")
    assert follower.events(2) == [("r1", 6, "AttemptUpdated"), ("r2", 7, "RunCreated")]

    use(recorded, _set_running)
    assert follower.events(1) == [("r1", 8, "RunStatusChanged")]
    assert follower.interrupt() == (130, "", '{"after": 8}\n')


def test_people_see_which_run_it_is(tail: Callable[..., Tail]) -> None:
    """In text, each line names the run, and the last line on standard error says where to go on."""
    follower = tail("-n", "1")
    assert follower.next().endswith(" UTC\n")
    assert follower.next().split()[2:] == ["r2:", "(root)@1", "RunCreated", "CREATED"]
    assert follower.interrupt() == (130, "", "resume with --after 7\n")


@pytest.mark.parametrize(
    ("arguments", "positions"),
    [
        (["r1"], [1, 2, 3, 4, 5, 6]),
        (["r1", "--lines", "3"], [4, 5, 6]),
        (["r1", "--branch", "fit", "--lines", "2"], [5, 6]),
        (["r1", "--branch", ""], [1, 2]),
        (["--type", "RunCreated"], [1, 7]),
        (["--type", "RunCreated", "--type", "BranchForked", "-n", "2"], [3, 7]),
        (["--step", "train"], [4, 5, 6]),
        (["--status", "RUNNING"], [4, 5]),
        (["--status", "COMPLETED"], [6]),
        (["--after", "5"], [6, 7]),
        (["r1", "--after", "4"], [5, 6]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_what_is_shown(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], positions: list[int]
) -> None:
    """Each filter of `tail` selects its events: the last ones, or all after a position."""
    shown = list[int]()

    def show(document: dict[str, Any], **_: object) -> None:
        shown.append(document["position"])
        if shown[-1] == positions[-1]:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("engine.cli.event_lines.print_json", show)
    assert main(["tail", "--db", str(recorded), "--json", *arguments]) == 130
    assert shown == positions


def test_a_run_is_waited_for(tail: Callable[..., Tail], recorded: Path) -> None:
    """`tail` waits for a run, or a branch of it, that does not exist yet."""

    async def record(engine: Engine) -> None:
        await engine.create_run("other")
        run = await engine.create_run("r3")
        await run.fork("fit")

    follower, branch = tail("r3", "--json"), tail("r3", "--branch", "fit", "--json")
    first = tail("r1", "--json", "-n", "1")  # when this one has answered, the others have most likely started
    first.events(1)
    use(recorded, record)

    assert follower.events(2) == [("r3", 9, "RunCreated"), ("r3", 10, "BranchForked")]
    assert branch.events(1) == [("r3", 10, "BranchForked")]


def test_people_are_told_that_a_run_is_waited_for(tail: Callable[..., Tail], recorded: Path) -> None:
    """`tail` says on standard error that it waits for a run that does not exist."""
    follower = tail("r3")
    assert follower.process.stderr is not None
    assert follower.process.stderr.readline() == b"no run 'r3'; waiting for it\n"
    use(recorded, lambda engine: engine.create_run("r3"))
    assert follower.next().endswith(" UTC\n")
    assert "RunCreated" in follower.next()


def test_people_are_told_that_a_branch_is_waited_for(tail: Callable[..., Tail], recorded: Path) -> None:
    """`tail --branch` says on standard error that it waits for a branch that does not exist."""

    async def fork(engine: Engine) -> None:
        await (await engine.run("r1")).fork("late")

    follower = tail("r1", "--branch", "late")
    assert follower.process.stderr is not None
    assert follower.process.stderr.readline() == b"no branch 'late' in run 'r1'; waiting for it\n"
    use(recorded, fork)
    assert follower.next().endswith(" UTC\n")
    assert "BranchForked" in follower.next()


def test_it_resumes_where_it_ended(tail: Callable[..., Tail], recorded: Path) -> None:
    """`tail --after` shows what was recorded between two calls."""
    follower = tail("--json", "-n", "1")
    follower.events(1)
    after = json.loads(follower.interrupt()[2])["after"]
    use(recorded, _set_running)

    assert tail("--json", "--after", str(after)).events(1) == [("r1", 8, "RunStatusChanged")]


def test_a_rebuild_does_not_end_it(tail: Callable[..., Tail], recorded: Path) -> None:
    """`tail` goes on while another process rebuilds the views."""
    follower = tail("--json", "-n", "1")
    follower.events(1)
    use(recorded, lambda engine: engine.rebuild())
    use(recorded, _set_running)

    assert follower.events(1) == [("r1", 8, "RunStatusChanged")]
    assert follower.interrupt() == (130, "", '{"after": 8}\n')


def test_a_file_that_cannot_be_read_for_a_while_is_read_again(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a failed read, `tail` reports the error, safe to print, and resumes after the last event shown."""
    asked = list[int]()
    subscribe = Engine.subscribe

    async def failing(self: Engine, *, after: int, **arguments: Any) -> Any:
        asked.append(after)
        if len(asked) == 2:
            signal.raise_signal(signal.SIGINT)
        async for recorded_event in subscribe(self, after=after, **arguments):
            yield recorded_event
            raise ReadFailed(recorded, "no such column: \x1b[31m")

    monkeypatch.setattr(Engine, "subscribe", failing)
    monkeypatch.setattr("engine.cli.tail._PAUSE_SECONDS", 0)
    assert main(["tail", "--db", str(recorded), "--after", "4"]) == 130
    assert asked == [4, 5]
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith("ReadFailed: ")
    assert "no such column: \\x1b[31m" in said


@pytest.mark.parametrize("arguments", [["--branch", "fit"], ["--after", "-1"], ["--lines", "-1"]])
def test_a_wrong_command_line(recorded: Path, arguments: list[str]) -> None:
    """`tail` refuses a branch without a run, and negative numbers, with exit code 2."""
    assert main(["tail", "--db", str(recorded), *arguments]) == 2


def test_an_unknown_type_is_refused(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tail --type` with an unknown event type is an error that lists the known types."""
    assert main(["tail", "--db", str(recorded), "--type", "Nope"]) == 1
    assert "'Nope' is not one of the event types RunCreated" in capsys.readouterr().err
