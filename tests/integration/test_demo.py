"""The demo: its census of a folder is right, survives unusual folders, and replays to the same run."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import open_engine
from engine.cli import main
from engine.cli.demo import census, folder
from engine.cli.demo.census_progress import CensusProgress
from engine.cli.demo.replay import Replay
from engine.cli.terminal import Terminal
from engine.handles.engine import Engine

Census = Callable[..., dict[str, Any]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A small folder, three levels deep, with excluded folders, links and a pipe."""
    place = tmp_path / "place"
    files = {
        "README.md": b"one\ntwo\n",
        "empty": b"",
        "image.png": b"\x89PNG\0\n\n\n",
        "src/main.py": b"print()\n" * 10,
        "src/lib/util.py": b"x = 1\n",
        "src/lib/deep/deeper/deepest.py": b"y = 2\nz = 3",
        "docs/guide.md": b"guide\n" * 100,
        ".git/config": b"left out\n",
        "env/pyvenv.cfg": b"left out\n",
        "__pycache__/main.pyc": b"left out\n",
    }
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (place / "src" / "loop").symlink_to(place)
    (place / "dangling").symlink_to("nowhere")
    os.mkfifo(place / "pipe")
    return place


@pytest.fixture
def take(place: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> Census:
    """Run the demo on the folder, and return the document that it prints with `--json`."""

    def run(*options: str) -> dict[str, Any]:
        assert main(["demo", str(place), "--db", str(database), "--json", *options]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return run


def values(document: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the final parameters by name."""
    return {name: each["value"] for name, each in document["parameters"].items()}


def counted(place: Path) -> dict[str, int]:
    """Return the totals of a folder, counted independently of the census."""
    kept = [
        path
        for path in place.rglob("*")
        if not path.is_symlink() and not {".git", "env", "__pycache__"} & set(path.relative_to(place).parts)
    ]
    files = [path for path in kept if path.is_file()]
    return {
        "files": len(files),
        "folders": sum(path.is_dir() for path in kept),
        "bytes": sum(path.stat().st_size for path in files),
        "lines": sum(path.read_bytes().count(b"\n") for path in files if path.suffix != ".png"),
        "largest_bytes": max(path.stat().st_size for path in files),
        "smallest_bytes": min(path.stat().st_size for path in files),
    }


@pytest.mark.parametrize("depth", ["0", "1", "2", "4"])
def test_the_totals_are_right(take: Census, place: Path, depth: str) -> None:
    """The root's totals equal the folder's content at every depth of branches."""
    found = values(take("--depth", depth))

    assert {name: found[name] for name in counted(place)} == counted(place)
    assert found["others"] == 3
    assert found["suffixes"] == {"": 1, ".md": 2, ".png": 1, ".py": 3}
    assert found["top_level"] == ["docs", "src", "README.md", "dangling", "empty", "image.png", "pipe"]


def test_nothing_is_left_out_when_asked(take: Census) -> None:
    """`--all` includes version control, virtual environments and caches."""
    assert values(take("--all"))["files"] == values(take())["files"] + 3


def test_each_parameter_names_the_branch_that_supplied_it(take: Census) -> None:
    """A maximum names the one branch that supplied it, a sum all branches that were folded."""
    parameters = take()["parameters"]

    assert [source["branch"] for source in parameters["largest_bytes"]["supplied_by"]] == ["docs"]
    assert len(parameters["bytes"]["supplied_by"]) == 7
    assert {each["rule"] for each in parameters.values()} == {
        "sum", "max", "min", "merge", "concat", "collect", "mean", "function",
    }  # fmt: skip


def test_one_attempt_is_made_to_fail_and_tried_again(take: Census) -> None:
    """Every demo run has one failed attempt, and one more attempt than it has steps."""
    document = take()

    assert document["counts"]["failed_attempts"] == 1
    assert document["counts"]["attempts"] == document["counts"]["steps"] + 1


def test_branches_are_statused_to_the_end(take: Census, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every branch of a finished demo run is COMPLETED."""
    run_id = take()["run_id"]
    assert main(["tree", run_id, "--db", str(database), "--json"]) == 0
    waiting = [json.loads(capsys.readouterr().out)]
    statuses = set()
    while waiting:
        branch = waiting.pop()
        statuses.add(branch["status"])
        waiting += branch["branches"]

    assert statuses == {"COMPLETED"}


def refuse_to_read(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Make reading fail for every file whose path ends like this."""
    really = folder.lines_of

    def refuse(path: str) -> int:
        if path.endswith(ending):
            raise PermissionError(13, "Permission denied", path)
        return really(path)

    monkeypatch.setattr(folder, "lines_of", refuse)


def test_what_cannot_be_read_is_a_failed_attempt(
    take: Census, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreadable file fails an attempt with a reason that names it, and is counted as unreadable."""
    refuse_to_read(monkeypatch, "guide.md")
    document = take()
    main(["attempts", document["run_id"], "--db", str(database), "--step", "read", "--status", "FAILED", "--json"])
    (failed,) = json.loads(capsys.readouterr().out)["attempts"]

    assert failed["status_reason"] == "CannotRead: docs/guide.md: Permission denied"
    assert (values(document)["unreadable"], values(document)["not_read"]) == (1, ["docs/guide.md"])


def test_a_long_path_is_shown_cut(take: Census, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long path of an unreadable file is recorded shortened."""
    refuse_to_read(monkeypatch, "unreadable")
    deep = Path("d" * 150, "e" * 150)
    (place / deep).mkdir(parents=True)
    (place / deep / "unreadable").touch()

    assert values(take())["not_read"] == [f"{str(deep)[:200]}…"]


def test_a_folder_that_cannot_be_listed_is_counted(take: Census, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sub-folder that cannot be listed is reported, and the other files are counted."""
    really = folder.entries

    def refuse(path: str, shown: str, skip: folder.Skip) -> list[folder.Found]:
        if path.endswith("lib"):
            raise PermissionError(13, "Permission denied", path)
        return really(path, shown, skip)

    monkeypatch.setattr(folder, "entries", refuse)
    found = values(take())

    assert (found["unreadable"], found["not_read"], found["files"]) == (1, ["src/lib"], 5)


def test_a_folder_that_cannot_be_listed_at_all_is_an_error(
    place: Path, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the folder itself cannot be listed, the run is recorded as FAILED and the exit code is 1."""

    def refuse(*_: object) -> list[folder.Found]:
        raise PermissionError(13, "Permission denied", "place")

    monkeypatch.setattr(folder, "entries", refuse)

    assert main(["demo", str(place), "--db", str(database)]) == 1
    assert capsys.readouterr().err.startswith("anabranch: PermissionError: ")
    assert main(["runs", "--db", str(database), "--status", "FAILED", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1


def test_a_disk_that_fails_ends_the_census(
    place: Path, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An I/O error that persists ends the demo with one line of error and a FAILED run."""

    def fail(*_: object) -> list[folder.Found]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(folder, "take", fail)

    assert main(["demo", str(place), "--db", str(database)]) == 1
    assert capsys.readouterr().err == "anabranch: OSError: [Errno 5] Input/output error\n"
    assert main(["runs", "--db", str(database), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["status"], run["status_reason"]) == ("FAILED", "OSError: [Errno 5] Input/output error")


def test_names_of_any_bytes_are_branches(take: Census, place: Path) -> None:
    """File names that are not UTF-8, contain control characters or are too long become branches."""
    names = [b"bad\xff.txt", b"red\x1b[31m\n.txt", b"[bold]x", b"n" * 255, "ü".encode() * 120, b"=files", b"=rest"]
    for name in names:
        (place / os.fsdecode(name)).write_bytes(b"line\n")
    before, found = 7, values(take())

    assert len(found["top_level"]) == before + len(names)
    assert found["top_level"][-1] == "ü" * 120
    assert {"bad\\xff.txt", "red\\x1b[31m\\n.txt", "[bold]x"} <= set(found["top_level"])


def test_names_that_meet_are_told_apart(take: Census, place: Path) -> None:
    """A folder `a/b` and a file `a.b` get different branches, so that both are counted."""
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "inside").write_text("line\n")
    (place / "a.b").write_text("line\n")

    assert values(take())["lines"] == counted(place)["lines"]


def test_many_entries_share_branches(take: Census, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries beyond the largest number of branches share one branch, and all are counted."""
    monkeypatch.setattr(census, "CHILDREN_MAX", 4)
    document = take("--depth", "0")

    assert document["counts"]["branches"] == 6
    assert values(document)["bytes"] == counted(place)["bytes"]


def test_an_empty_folder_has_a_census(tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder has a census that replays."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()

    assert main(["demo", str(nothing), "--db", str(database)]) == 0
    assert "Replayed from its events alone" in capsys.readouterr().out


def test_the_demo_adds_to_a_database(take: Census) -> None:
    """A second demo on the same file is a second run, even within the same second."""
    assert take()["run_id"] != take()["run_id"]


def test_the_database_is_not_part_of_the_census(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default the demo takes a census of the current folder, without the database that it creates there."""
    monkeypatch.chdir(place)

    assert main(["demo", "--json"]) == 0
    assert values(json.loads(capsys.readouterr().out))["files"] == 7
    assert (place / "anabranch.db").exists()


def test_people_see_the_tree_the_parameters_and_the_replay(
    place: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo prints the tree, the parameters, the replay and the commands to go on with."""
    assert main(["demo", str(place), "--db", str(database)]) == 0
    printed = capsys.readouterr().out

    assert "├── docs  COMPLETED" in printed
    assert "│   └── lib  COMPLETED" in printed
    assert "largest_bytes" in printed
    assert "the same run." in printed
    assert f"anabranch runs --db {database}" in printed


def test_a_large_tree_is_drawn_one_level_deep(place: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A large tree is printed one level deep, with the number of branches below."""
    for number in range(60):
        (place / "src" / f"f{number:02}").mkdir()
    assert main(["demo", str(place), "--db", str(database)]) == 0
    printed = capsys.readouterr().out

    (src,) = [line for line in printed.splitlines() if line.startswith("├── src  COMPLETED")]
    assert src.endswith("  + 64 branches below")
    assert "── f00" not in printed


def test_a_replay_that_differs_is_exit_code_1(
    place: Path, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo exits with 1 when the replay differs from the run."""
    monkeypatch.setattr(Replay, "differences", lambda *_: ["branch 'docs': status differ"])

    assert main(["demo", str(place), "--db", str(database)]) == 1
    assert "NOT the same run" in capsys.readouterr().out


async def test_a_replay_finds_what_differs(engine: Engine) -> None:
    """`Replay.differences` reports each fact in which a run log differs from the replayed events."""
    run = await engine.create_run("r", parameters={"p": 1})
    branch = await run.fork("b")
    async with branch.attempt("s"):
        await branch.set_parameters({"p": 2})
    await run.reduce()
    replay = Replay()
    await replay.feed(engine.events(run_id="r"))
    assert replay.differences(await run.compile()) == []

    await run.set_status("FAILED")
    await branch.set_parameters({"p": 3})
    await branch.remove_step("s")
    await run.fork("c")
    assert replay.differences(await run.compile()) == [
        "branch 'c' exists on one side only",
        "branch '': status differ",
        "branch '': version differ",
        "branch 'b': version differ",
        "branch 'b': parameters differ",
        "branch 'b': steps differ",
        "branch 'b': attempts differ",
    ]


async def test_an_interrupted_census_is_recorded_as_cancelled(place: Path, database: Path) -> None:
    """A cancelled census is recorded as a CANCELLED run, and the engine stays usable."""

    class Stop:
        def begun(self, entries: list[str]) -> None:
            scope.cancel()

        def found(self, entry: str, files: int) -> None: ...
        def read(self, entry: str, files: int) -> None: ...
        def done(self, entry: str) -> None: ...

    async with open_engine(database) as engine:
        with anyio.CancelScope() as scope:
            await census.take_census(engine, census.Plan(folder=str(place)), Stop())
        (run,) = await engine.runs()

    assert (run.status, run.status_reason) == ("CANCELLED", "interrupted")


async def test_progress_is_drawn_on_a_terminal(place: Path, engine: Engine) -> None:
    """The census draws progress bars on a terminal, and removes them at the end."""
    drawn = io.StringIO()
    with CensusProgress(Terminal(file=drawn, force_terminal=True, width=80)) as progress:
        await census.take_census(engine, census.Plan(folder=str(place)), progress)

    assert "entries" in drawn.getvalue()
    assert drawn.getvalue().endswith("\x1b[2K")


async def test_no_progress_is_drawn_elsewhere(place: Path, engine: Engine) -> None:
    """The census draws no progress bars into a file or a pipe."""
    drawn = io.StringIO()
    with CensusProgress(Terminal(file=drawn)) as progress:
        await census.take_census(engine, census.Plan(folder=str(place)), progress)

    assert drawn.getvalue() == ""
