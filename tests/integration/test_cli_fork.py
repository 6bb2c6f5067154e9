"""`anabranch fork`: what it opens, prints and refuses."""

import asyncio
import json
from pathlib import Path

import pytest

from engine import open_engine
from engine.cli import main
from engine.model import RunInfo


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r1", parameters={"lr": 0.1})
        async with run.attempt("prepare"):
            await run.set_parameters({"rows": 7})
        await (await run.start_attempt("train")).finish("FAILED")
        await (await run.fork("a")).set_parameters({"x": 1})


@pytest.fixture
def recorded(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with a run whose second step failed."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    monkeypatch.delenv("COLUMNS", raising=False)
    asyncio.run(_record(database))
    return database


def test_going_on_from_a_step(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fork --from-step` prints the new run, its fork point, and the parameters and steps that it inherits."""
    assert main(["fork", "r1", "--from-step", "train", "--as", "r2"]) == 0
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()] == [
        ["run", "r2"],
        ["forked", "from  r1: (root)@6"],
        ["sees", "2 parameters"],
        ["inherits", "1 step that had succeeded: prepare"],
    ]
    assert main(["steps", "r2"]) == 0
    assert "prepare" in capsys.readouterr().out


async def _prepare_again(database: Path) -> None:
    async with open_engine(database) as engine, (await engine.run("r2")).attempt("prepare"):
        pass


def test_attempts_of_a_fork_as_of_a_point(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`attempts --at` names the run whose step a fork inherited then, although the fork has repeated it since."""
    assert main(["fork", "r1", "--from-step", "train", "--as", "r2"]) == 0
    asyncio.run(_prepare_again(recorded))
    capsys.readouterr()
    assert main(["attempts", "r2", "--at", "1"]) == 0
    assert capsys.readouterr().out == "no attempts of its own\n1 attempt at inherited steps: r1: (root)@6\n"


def test_the_fork_is_there_for_scripts(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fork --json` prints the same facts, with a generated run id where none is given."""
    assert main(["fork", "r1", "--branch", "a", "--at", "2", "--tag", "again", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["forked_from"] == {"run_id": "r1", "branch": "a", "stream_version": 2}
    assert (found["parameters"], found["inherited_steps"]) == (["lr", "rows", "x"], [])
    assert found["run_id"].startswith("r1-fork-")

    info = asyncio.run(_info(recorded, found["run_id"]))
    assert (info.tag, info.original_run_id) == ("again", "r1")


def test_default_fork_ids_never_clash(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generated run ids differ, also for forks within one second; an explicit id that is taken is refused."""
    made = []
    for _ in range(3):
        assert main(["fork", "r1", "--json"]) == 0
        made.append(json.loads(capsys.readouterr().out)["run_id"])
    assert len({*made}) == 3
    assert main(["fork", "r1", "--as", made[0]]) == 1


@pytest.mark.parametrize("run_id", ["é" * 256, "😀" * 128, "a" * 512])
def test_the_default_id_fits_where_the_run_has_a_long_one(
    recorded: Path, capsys: pytest.CaptureFixture[str], run_id: str
) -> None:
    """The generated id of a fork shortens a long run id between characters, to fit the limit of names."""

    async def record() -> None:
        async with open_engine(recorded) as engine:
            await engine.create_run(run_id)

    asyncio.run(record())
    for _ in range(2):
        assert main(["fork", run_id, "--json"]) == 0
        kept, _, _ = json.loads(capsys.readouterr().out)["run_id"].partition("-fork-")
        assert run_id.startswith(kept)
        assert len(kept.encode()) > 470


async def _info(database: Path, run_id: str) -> RunInfo:
    async with open_engine(database) as engine:
        return await (await engine.run(run_id)).info()


REFUSED = {
    ("nobody",): "RunNotFound",
    ("r1", "--branch", "nobody"): "BranchNotFound",
    ("r1", "--at", "99"): "PointNotFound",
    ("r1", "--at", "p99"): "PointNotFound",
    ("r1", "--at", "2001-01-01"): "PointNotFound",
    ("r1", "--from-step", "nothing"): "StepNotFound",
    ("r1", "--as", "r1"): "RunExists",
    ("r1", "--as", ""): "InvalidName",
}


def test_forks_of_one_second_are_counted(
    recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generated ids that would clash are numbered from the second on, without a gap."""
    monkeypatch.setattr("engine.cli.fork.dated", lambda *_: "r1-fork-now")
    for name in ("r1-fork-now", "r1-fork-now-2", "r1-fork-now-3"):
        assert main(["fork", "r1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["run_id"] == name


@pytest.mark.parametrize(("arguments", "error"), REFUSED.items(), ids=map(" ".join, REFUSED))
def test_impossible_forks_are_refused(
    recorded: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], error: str
) -> None:
    """A fork that cannot be made is an error with its name, and no run is created."""
    assert main(["fork", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"anabranch: {error}: ")
    assert main(["runs", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1


ELSEWHERE = {
    ("r1", "prepar"): "did you mean 'prepare'?",
    ("r1", "none"): "anabranch steps lists the steps",
    ("r1", "inner"): "it is in a (--branch)",
    ("r1", "train", "--at", "2"): "it began after that point",
    ("r2", "prepare"): "it is inherited from r1: (root)@9: fork that run instead",
}


@pytest.mark.parametrize("asked", ELSEWHERE)
def test_an_unknown_step_is_an_error_with_a_hint(
    recorded: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, ...]
) -> None:
    """The error for an unknown step hints at a similar name, another branch, a later point or the source run."""

    async def record() -> None:
        async with open_engine(recorded) as engine:
            await engine.fork_run("r1", run_id="r2")
            await (await (await engine.run("r1")).branch("a")).log_step("inner")

    asyncio.run(record())
    run_id, step, *point = asked
    assert main(["fork", run_id, "--from-step", step, *point]) == 1
    assert capsys.readouterr().err.endswith(f"; {ELSEWHERE[asked]}\n")


def test_inherited_steps_are_marked(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`steps` and `tree --steps` mark inherited steps, and `steps` names their source."""
    assert main(["fork", "r1", "--as", "r2"]) == 0
    capsys.readouterr()
    assert main(["steps", "r2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("inherited from r1: (root)@9")
    assert main(["tree", "r2", "--steps"]) == 0
    assert [line.split("  ")[1:] for line in capsys.readouterr().out.splitlines()] == [
        ["CREATED", "v1", "1 step (1 inherited), 1 attempt"],
        ["COMPLETED", "inherited"],
    ]


def test_attempts_at_inherited_steps_belong_to_the_source(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`attempts` of a fork says that it has none of its own, and where those at its inherited steps are."""
    assert main(["fork", "r1", "--as", "r2"]) == 0
    capsys.readouterr()
    for asked, at in (([], ""), (["--step", "prepare"], " at prepare")):
        assert main(["attempts", "r2", *asked]) == 0
        assert capsys.readouterr().out == f"no attempts of its own{at}\n1 attempt at inherited steps: r1: (root)@9\n"
    assert main(["attempts", "r2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attempts"] == []


def test_an_inherited_step_without_attempts_names_no_source(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`attempts` of a fork does not point to the source when an inherited step has no attempts."""

    async def record() -> None:
        async with open_engine(recorded) as engine:
            run = await engine.create_run("noted")
            await run.log_step("note", status="COMPLETED")
            await engine.fork_run("noted", run_id="forked")

    asyncio.run(record())
    assert main(["attempts", "forked"]) == 0
    assert capsys.readouterr().out == "no attempts\n"
