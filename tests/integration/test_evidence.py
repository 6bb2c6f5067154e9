"""Evidence of a run: what a bundle contains, when an export is refused, and what a bundle proves later."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Position, TaskSpec, open_engine
from engine.cli import main
from engine.commands import LogExternalRun
from engine.errors import InvalidValue, NotErasable, RunNotFound
from engine.events import ExternalRunRegistered, ExternalRunUpdated
from engine.model import Origin
from engine.reports.evidence import EvidenceExists, EvidenceNotFound, check_evidence, collect_evidence, export_evidence
from engine.reports.evidence_report import report
from tests.integration.recorded_tasks import record_tasks


@pytest.fixture
def root_path(tmp_path: Path) -> Path:
    """The run's folder, in which the artifacts of one attempt exist."""
    (tmp_path / "root" / "relax" / "2").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
async def recorded(database: Path, root_path: Path) -> Path:
    """A database with a run of tasks."""
    await record_tasks(database, root_path=str(root_path))
    return database


@pytest.fixture
async def bundle(recorded: Path, tmp_path: Path) -> Any:
    """The exported bundle of that run."""
    async with open_engine(recorded) as engine:
        await export_evidence(engine, "r1", tmp_path / "evidence")
    return json.loads((tmp_path / "evidence" / "bundle.json").read_text())


def tasks(bundle: Any) -> dict[str, Any]:
    return {task["step"]: task for task in bundle["tasks"]}


async def test_a_bundle_says_which_run_it_is_of(bundle: Any, root_path: Path) -> None:
    """A bundle names its format, the run with its facts, and the number of tasks of each status."""
    assert (bundle["format"], bundle["format_version"], bundle["generated_at"][-1]) == ("anabranch-evidence", 2, "Z")
    run = bundle["run"]
    assert (run["run_id"], run["workspace_slug"], run["root_path"]) == ("r1", "lab", str(root_path))
    assert (run["status"], run["status_reason"], run["tags"]) == ("RUNNING", None, {"year": 2026})
    assert bundle["task_counts"] == {"COMPLETED": 1, "FAILED": 1, "PENDING": 6}


async def test_a_bundle_has_every_task_whole(bundle: Any) -> None:
    """A bundle has every task with its whole specification, defaults included, and all attempts in order."""
    relax = tasks(bundle)["relax"]

    assert list(tasks(bundle)) == ["prepare", "relax", "dock", "report", "plot", "publish", "legacy", "lost"]
    assert (relax["spec"]["operator_key"], relax["spec"]["dependencies"]) == ("slurm", ["prepare"])
    assert (relax["spec"]["image"], relax["spec"]["allow_failure"]) == ("", False)
    assert [attempt["attempt_index"] for attempt in relax["attempts"]] == [1, 2]
    assert relax["current_attempt"] == relax["attempts"][1]
    last = relax["attempts"][1]
    assert (last["attempt_id"], last["external_id"], last["operator_key"]) == ("x2", "job-3", "slurm")
    assert (last["status"], last["status_reason"]) == ("FAILED", "exit code 137: out of memory")
    assert last["submitted_at"] <= last["ended_at"]


async def test_a_bundle_says_where_artifacts_are(bundle: Any, root_path: Path) -> None:
    """An attempt's artifacts have a path below the run's folder and say whether it exists; they may be absent."""
    first, second = (attempt["artifacts"] for attempt in tasks(bundle)["relax"]["attempts"])

    assert first == {"path": str(root_path / "relax" / "1"), "exists": False}
    assert second == {"path": str(root_path / "relax" / "2"), "exists": True}
    assert tasks(bundle)["plot"]["current_attempt"]["artifacts"] is None


async def test_an_external_run_replaces_missing_attempts(bundle: Any) -> None:
    """A bundle contains a task's external run only if the task has no attempts."""
    legacy = tasks(bundle)["legacy"]

    assert (legacy["attempts"], legacy["current_attempt"]) == ([], None)
    assert (legacy["external_run"]["operator_type"], legacy["external_run"]["external_id"]) == ("HPC", "9")
    assert {task["external_run"] for name, task in tasks(bundle).items() if name != "legacy"} == {
        None
    }  # plot has one, too


async def test_steps_that_are_no_tasks_stand_under_their_branch(bundle: Any) -> None:
    """A bundle has every branch, the root first, with its steps that are no tasks."""
    root, fit = bundle["branches"]

    assert (root["branch"], root["steps"], fit["branch"], fit["parent"]) == ("", [], "fit.a", "")
    assert [(step["step"], step["attempts"][0]["message"]) for step in fit["steps"]] == [("train", "no data")]


async def test_a_bundle_has_the_head_of_every_stream(bundle: Any, recorded: Path) -> None:
    """A bundle has the head of every stream as in the log, the root's first, and the position of the snapshot."""
    with contextlib.closing(sqlite3.connect(recorded)) as connection:
        streams = connection.execute("SELECT branch, version, lower(hex(hash)) FROM streams ORDER BY stream_id")
        heads = [dict(zip(("branch", "stream_version", "hash"), row, strict=True)) for row in streams]
        (position,) = connection.execute("SELECT max(position) FROM events").fetchone()

    assert bundle["log"] == {"position": position, "heads": heads}


async def test_a_run_without_a_folder(database: Path, tmp_path: Path) -> None:
    """Artifacts of a run that names no folder have no path, and the report says so."""
    await record_tasks(database)
    async with open_engine(database) as engine:
        found = await export_evidence(engine, "r1", tmp_path)

    artifacts = [attempt["artifacts"] for task in found["tasks"] for attempt in task["attempts"]]
    assert {"path": None, "exists": None} in artifacts
    assert "the run has no folder" in (tmp_path / "report.md").read_text()


async def test_nothing_is_overwritten_unasked(bundle: Any, recorded: Path, tmp_path: Path) -> None:
    """An export raises EvidenceExists if either of its files exists; `overwrite=True` replaces both."""
    folder = tmp_path / "evidence"
    (folder / "bundle.json").unlink()
    (folder / "report.md").write_text("mine")
    async with open_engine(recorded) as engine:
        with pytest.raises(EvidenceExists) as refused:
            await export_evidence(engine, "r1", folder)
        assert (refused.value.path, (folder / "report.md").read_text()) == (folder / "report.md", "mine")
        await export_evidence(engine, "r1", folder, overwrite=True)

    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "report.md"]
    assert (folder / "report.md").read_text().startswith("# Evidence of run r1")


async def test_a_file_is_replaced_whole(bundle: Any, recorded: Path, tmp_path: Path) -> None:
    """A process that has the old bundle open reads it to its end while a new one replaces it."""
    folder = tmp_path / "evidence"
    old = (folder / "bundle.json").read_text()
    with (folder / "bundle.json").open() as reader:
        async with open_engine(recorded) as engine:
            await export_evidence(engine, "r1", folder, overwrite=True)
        assert reader.read() == old


async def test_what_cannot_be_written_leaves_nothing(
    bundle: Any, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that cannot be written leaves the earlier bundle unchanged, and no partial file."""
    folder = tmp_path / "evidence"
    before = {path.name: path.read_text() for path in folder.iterdir()}

    def refuse(_: int) -> None:
        raise OSError("no space left")

    async with open_engine(recorded) as engine:
        monkeypatch.setattr("engine.logs.file_system.os.fsync", refuse)
        with pytest.raises(OSError, match="no space left"):
            await export_evidence(engine, "r1", folder, overwrite=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


async def test_a_run_that_is_not_there_has_no_evidence(engine: Engine, tmp_path: Path) -> None:
    """An export of an unknown run raises RunNotFound and creates no folder."""
    with pytest.raises(RunNotFound):
        await export_evidence(engine, "r9", tmp_path / "evidence")
    assert not (tmp_path / "evidence").exists()


async def test_a_bundle_is_of_one_moment(engine: Engine) -> None:
    """A bundle shows the run as of one position, although other tasks write meanwhile."""
    run = await engine.create_run("r1")
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await run.start_attempt("step")

    writing = asyncio.create_task(write())
    for _ in range(10):
        found = await collect_evidence(engine, "r1")
        attempts = sum(len(step["attempts"]) for step in found["branches"][0]["steps"])
        at = Position(found["log"]["position"])
        assert attempts == len(await run.attempts(at=at))
        assert found["log"]["heads"] == [await run.head(at=at)]
    done.set()
    await writing


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [("exit code 1", "no data", "exit code 1"), (None, "no data", "no data"), (None, "", "given up")],
)
async def test_the_report_says_why_a_step_failed(engine: Engine, reason: str | None, message: str, told: str) -> None:
    """A step's row has the reason of its last attempt, else its message, else the step's own reason."""
    run = await engine.create_run("r")
    branch = await run.fork("b")
    await (await branch.start_attempt("s")).finish("FAILED", reason, message=message)
    await branch.set_step_status("s", "FAILED", "given up")
    text = report(await collect_evidence(engine, "r"))
    of_the_step = next(line for line in text.splitlines() if line.startswith("| b | s |"))
    assert told in [cell.strip() for cell in split_cells(of_the_step)]


async def test_no_text_breaks_the_report(engine: Engine) -> None:
    """Recorded texts can neither break a table of the report nor add markup, links or HTML."""
    hostile = "a|b\n# c\r\\|`d` [x](http://y) <img src=z> **e** \u202e"
    name = "a|b [x](http://y) <b> `d` \\|"
    run = await engine.create_run(name, description=hostile, root_path=hostile)
    branch = await run.fork(name)
    await branch.start_attempt(name, status="FAILED", message=hostile, relative_path=hostile)
    text = report(await collect_evidence(engine, name))

    for table in (each for each in text.split("\n\n") if each.startswith("|")):
        assert len({len(split_cells(line)) for line in table.splitlines()}) == 1
    assert not {"\r", "\u202e"} & set(text)
    assert "<img" not in text.replace("\\<img", "")
    assert "](" not in text.replace("\\](", "")
    assert "http://" not in text


def split_cells(line: str) -> list[str]:
    """Split a table line at the bars that Markdown recognises: those without an unescaped backslash before them."""
    cells, escaped = [""], False
    for character in line:
        if character == "|" and not escaped:
            cells.append("")
        else:
            cells[-1] += character
        escaped = character == "\\" and not escaped
    return cells


async def test_the_log_holds_what_the_bundle_names(bundle: Any, recorded: Path, tmp_path: Path) -> None:
    """A bundle holds right after its export, and after the run has gone on."""
    async with open_engine(recorded) as engine:
        assert (await check_evidence(engine, "r1", tmp_path / "evidence")).holds
        run = await engine.run("r1")
        await run.set_status("FAILED")
        await (await run.fork("fit.b")).set_parameters({"a": 1})
        ended = ExternalRunUpdated(branch="", task_id="legacy", status="COMPLETED", external_id="9")
        await run.write(LogExternalRun(event=ended))
        assert (await check_evidence(engine, "r1", tmp_path / "evidence")).holds


async def test_evidence_holds_however_far_each_branch_goes_on(database: Path, tmp_path: Path) -> None:
    """A bundle still holds once a branch has a version at which the bundle names another branch's head."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"x": 1})
        branch = await run.fork("a")
        await run.set_parameters({"x": 2})
        await export_evidence(engine, "r", tmp_path)
        for value in range(3):
            await branch.set_parameters({"x": value})
        assert (await check_evidence(engine, "r", tmp_path)).holds


async def test_an_external_run_of_a_branch_is_in_the_bundle(database: Path) -> None:
    """A bundle contains the external run of a branch's task."""
    async with open_engine(database) as engine:
        branch = await (await engine.create_run("r")).fork("a")
        await branch.log_step("t", spec=TaskSpec())
        event = ExternalRunRegistered(branch="a", task_id="t", operator_type="HPC", status="RUNNING", external_id="7")
        await branch.write(LogExternalRun(branch="a", event=event))
        (task,) = (await collect_evidence(engine, "r"))["tasks"]
    assert (task["branch"], task["external_run"].external_id) == ("a", "7")


TAMPERED = {
    "a payload": "UPDATE events SET payload = x'80' WHERE position = 5",
    "a hash in the middle": "UPDATE events SET hash = zeroblob(32) WHERE position = 5",
    "an event that is lost": "DELETE FROM events WHERE position = 5",
    "a head": "UPDATE streams SET hash = zeroblob(32) WHERE branch = ''",
}


@pytest.mark.parametrize("statement", TAMPERED.values(), ids=TAMPERED)
async def test_a_tampered_log_is_found_out(bundle: Any, recorded: Path, tmp_path: Path, statement: str) -> None:
    """The check fails for any change to the history before the bundle's heads."""
    with contextlib.closing(sqlite3.connect(recorded)) as connection, connection:
        connection.execute(statement)
    async with open_engine(recorded) as engine:
        assert not (await check_evidence(engine, "r1", tmp_path / "evidence")).holds


async def test_another_history_that_is_whole_is_found_out(bundle: Any, tmp_path: Path) -> None:
    """The check fails for a rewritten log with consistent hashes, since its heads differ."""
    other = tmp_path / "other.db"
    await record_tasks(other)
    async with open_engine(other) as engine:
        found = await check_evidence(engine, "r1", tmp_path / "evidence")

    assert (found.problems, [head.holds for head in found.heads]) == ([], [False, False])


async def test_a_log_that_ends_earlier_is_found_out(database: Path, tmp_path: Path) -> None:
    """The check reports a head beyond the end of its stream, or of an unknown branch, as not found."""
    (tmp_path / "bundle.json").write_text(
        json.dumps(
            {
                "format": "anabranch-evidence",
                "format_version": 1,
                "run": {"run_id": "r1"},
                "log": {"heads": [{"branch": name, "stream_version": 7, "hash": "00"} for name in ("", "gone")]},
            }
        )
    )
    async with open_engine(database) as engine:
        await engine.create_run("r1")
        found = await check_evidence(engine, "r1", tmp_path)

    assert [head.found for head in found.heads] == [None, None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a bundle of evidence"),
        ("[]", "is not a bundle of evidence"),
        ('{"format": "x", "format_version": 1, "run": {"run_id": "r1"}, "log": {"heads": []}}', "is not anabranch-ev"),
        (
            '{"format": "anabranch-evidence", "format_version": 3, "run": {"run_id": "r1"}, "log": {"heads": []}}',
            "is not anabranch-evidence 2",
        ),
        (
            '{"format": "anabranch-evidence", "format_version": 1, "run": {"run_id": "r2"}, "log": {"heads": []}}',
            "is the run it is evidence of, not 'r1'",
        ),
    ],
)
async def test_what_is_no_bundle_is_refused(engine: Engine, tmp_path: Path, text: str, reason: str) -> None:
    """A file that is no bundle, or one of another format, version or run, raises InvalidValue."""
    await engine.create_run("r1")
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(InvalidValue, match=reason):
        await check_evidence(engine, "r1", tmp_path)


@pytest.fixture
def typed(database: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `export evidence r1` on a recorded run; return the exit code and what was printed."""
    asyncio.run(record_tasks(database))

    def run(*arguments: object) -> tuple[int, str]:
        code = main(["export", "evidence", "r1", "--db", str(database), *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_the_command_writes_and_checks(typed: Callable[..., tuple[int, str]], tmp_path: Path, database: Path) -> None:
    """`--check` accepts a bundle just written; after tampering it exits with 1 and names the place."""
    folder = tmp_path / "new" / "evidence"
    assert typed("--to", folder)[0] == 0
    assert typed("--check", folder) == (0, "the log holds the history of 2 streams that the bundle describes\n")
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE events SET hash = zeroblob(32) WHERE position = 5")

    code, printed = typed("--check", folder)
    assert (code, printed.splitlines()[1].split()[:3]) == (1, ["(root)", "5", "hash:"])
    code, printed = typed("--check", folder, "--json")
    assert (code, json.loads(printed)["holds"]) == (1, False)


def test_the_bundle_says_which_run_it_is_of(
    typed: Callable[..., tuple[int, str]], tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` takes the run from the bundle and refuses another one; `--to` requires the run."""
    folder = str(tmp_path / "evidence")
    assert typed("--to", folder)[0] == 0
    assert main(["export", "evidence", "--db", str(database), "--check", folder]) == 0
    assert main(["export", "evidence", "other", "--db", str(database), "--check", folder]) == 1
    assert "is the run it is evidence of, not 'other'" in capsys.readouterr().err
    assert main(["export", "evidence", "--db", str(database), "--to", folder]) == 2


def test_the_command_says_what_it_wrote(typed: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """The command prints what it wrote, as text or JSON, and replaces a bundle only with `--force`."""
    code, printed = typed("--to", tmp_path / "evidence", "--json")

    assert (code, json.loads(printed)["tasks"], json.loads(printed)["streams"]) == (0, 8, 2)
    code, printed = typed("--to", tmp_path / "evidence")
    assert (code, printed.split(":")[1]) == (1, " EvidenceExists")
    holds = f"wrote bundle.json and report.md into {tmp_path / 'evidence'}: 8 tasks, 2 streams\n"
    assert typed("--to", tmp_path / "evidence", "--force") == (0, holds)


@pytest.mark.parametrize("arguments", [[], ["--to", "a", "--check", "b"]])
def test_either_to_or_check_is_needed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The command requires exactly one of `--to` and `--check`."""
    assert main(["export", "evidence", "r1", *arguments]) == 2
    assert "UsageError" in capsys.readouterr().err


EDITS: dict[str, Callable[[Any], object]] = {
    "tasks[1].status": lambda bundle: bundle["tasks"][1].update(status="COMPLETED"),
    "tasks": lambda bundle: bundle["tasks"].pop(),
    "task_counts.FAILED": lambda bundle: bundle["task_counts"].update(FAILED=0),
    "run.status": lambda bundle: bundle["run"].update(status="COMPLETED"),
    "tasks[1].attempts[1].attempt_index": lambda bundle: bundle["tasks"][1]["attempts"][1].update(attempt_index=2.0),
    "log.heads": lambda bundle: bundle["log"].update(heads=[]),
    "tasks[1].attempts[0].status_reason": lambda bundle: bundle["tasks"][1]["attempts"][0].update(status_reason="x"),
}


@pytest.mark.parametrize("place", EDITS)
async def test_a_bundle_that_was_edited_is_found_out(recorded: Path, bundle: Any, tmp_path: Path, place: str) -> None:
    """The check compares every word of the bundle with the log, and names the place that was edited."""
    EDITS[place](bundle)
    (tmp_path / "evidence" / "bundle.json").write_text(json.dumps(bundle))
    async with open_engine(recorded) as engine:
        found = await check_evidence(engine, "r1", tmp_path / "evidence")

    assert (found.holds, found.differing) == (False, [place])


@pytest.mark.parametrize(
    "hostile",
    [b"\xff", b'","deep":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b',"b":"', b'","number":1' + b"0" * 400 + b',"b":"'],
)
async def test_a_bundle_that_is_damaged_anywhere_is_refused(
    recorded: Path, bundle: Any, tmp_path: Path, hostile: bytes
) -> None:
    """A bundle that is malformed anywhere raises InvalidValue."""
    bundle["run"]["description"] = "HERE"
    edited = json.dumps(bundle).encode().replace(b"HERE", hostile)
    (tmp_path / "evidence" / "bundle.json").write_bytes(edited)
    async with open_engine(recorded) as engine:
        with pytest.raises(InvalidValue, match="is not a bundle of evidence"):
            await check_evidence(engine, "r1", tmp_path / "evidence")


async def test_what_was_erased_since_cannot_be_compared(recorded: Path, bundle: Any, tmp_path: Path) -> None:
    """After an erasure a bundle still holds, and the check names exactly the words that it could not compare."""
    async with open_engine(recorded) as engine:
        await engine.erase("r1", None, 1, "a name was in it")
        found = await check_evidence(engine, "r1", tmp_path / "evidence")

    named = [f"run.{name}" for name in ("description", "root_path", "tags", "workspace_slug")]
    assert (found.holds, found.differing, found.erased[:4]) == (True, [], named)
    assert {place.split(".")[-2:] == ["artifacts", "path"] for place in found.erased[4:]} == {True}


@pytest.mark.parametrize("place", EDITS)
async def test_an_erasure_hides_no_edit(recorded: Path, bundle: Any, tmp_path: Path, place: str) -> None:
    """After an erasure an edit of the bundle's other words is still found."""
    EDITS[place](bundle)
    (tmp_path / "evidence" / "bundle.json").write_text(json.dumps(bundle))
    async with open_engine(recorded) as engine:
        await engine.erase("r1", None, 1, "a name was in it")
        found = await check_evidence(engine, "r1", tmp_path / "evidence")

    assert (found.holds, found.differing) == (False, [place])


async def test_a_bundle_of_erased_words_is_compared_in_full(recorded: Path, bundle: Any, tmp_path: Path) -> None:
    """A bundle exported after erasures holds with nothing uncompared; the earlier one still holds.

    For the earlier one the check lists the erased words.
    """
    async with open_engine(recorded) as engine:
        for version in range(1, bundle["log"]["heads"][0]["stream_version"] + 1):
            with contextlib.suppress(NotErasable):
                await engine.erase("r1", None, version, "everything")
        later = tmp_path / "later"
        await export_evidence(engine, "r1", later)
        found = await check_evidence(engine, "r1", later)
        before = await check_evidence(engine, "r1", tmp_path / "evidence")

    assert (found.holds, found.differing, found.erased) == (True, [], [])
    assert (before.holds, before.differing) == (True, [])
    assert before.erased


async def test_what_is_left_of_an_erased_specification_is_compared(tmp_path: Path, engine: Engine) -> None:
    """Of an erased specification the check still compares what the log keeps, such as dependencies."""
    run = await engine.create_run("r1")
    await run.log_step("t", spec=TaskSpec(command="secret", image="i", dependencies=["s"]), message="(erased)")
    await export_evidence(engine, "r1", tmp_path)
    await engine.erase("r1", None, 2, "a password was in it")
    honest = await check_evidence(engine, "r1", tmp_path)
    assert (honest.holds, honest.erased) == (True, ["tasks[0].spec.command", "tasks[0].spec.image"])
    for name, value in (("dependencies", []), ("allow_failure", True), ("more", 1)):
        bundle = json.loads((tmp_path / "bundle.json").read_text())
        bundle["tasks"][0]["spec"][name] = value
        (tmp_path / "forged").mkdir(exist_ok=True)
        (tmp_path / "forged" / "bundle.json").write_text(json.dumps(bundle))
        forged = await check_evidence(engine, "r1", tmp_path / "forged")
        assert (forged.holds, forged.differing) == (False, [f"tasks[0].spec.{name}"])


async def test_what_only_looks_erased_is_compared(tmp_path: Path, engine: Engine) -> None:
    """A value that only looks erased is compared, unless it may be the result of an erasure."""
    run = await engine.create_run("r1", tags={"erased": True, "owner": "alice"}, description="(erased)")
    await run.log_step("s", details={"erased": True, "energy": -1.5})
    await run.set_status("RUNNING", "why")
    await export_evidence(engine, "r1", tmp_path)
    edits = [("alice", "bob"), ("-1.5", "-9.5"), ('"description": "(erased)"', '"description": "forged"')]
    text = (tmp_path / "bundle.json").read_text()
    differing = [["run.tags.owner"], ["branches[0].steps[0].details.energy"], ["run.description"]]
    for (before, after), places in zip(edits, differing, strict=True):
        (tmp_path / "bundle.json").write_text(text.replace(before, after))
        assert (await check_evidence(engine, "r1", tmp_path)).differing == places
    await engine.erase("r1", None, 3, "a name was in it")
    for (before, after), places in zip(edits[:2], differing, strict=False):
        (tmp_path / "bundle.json").write_text(text.replace(before, after))
        assert (await check_evidence(engine, "r1", tmp_path)).differing == places


async def test_a_forged_place_of_artifacts_is_found_out(recorded: Path, bundle: Any, tmp_path: Path) -> None:
    """The check compares the path of artifacts, but not whether they exist."""
    attempt = bundle["tasks"][1]["attempts"][1]
    attempt["artifacts"] = {"path": "/elsewhere", "exists": not attempt["artifacts"]["exists"]}
    (tmp_path / "evidence" / "bundle.json").write_text(json.dumps(bundle))
    async with open_engine(recorded) as engine:
        found = await check_evidence(engine, "r1", tmp_path / "evidence")
    assert found.differing == ["tasks[1].attempts[1].artifacts.path"]


async def test_evidence_holds_after_the_source_is_deleted(tmp_path: Path, engine: Engine) -> None:
    """A bundle holds after its run's source was deleted and carried over under new ids; a forged id is found."""
    source = await engine.create_run("r1")
    async with source.attempt("s"):
        pass
    await engine.fork_run("r1", run_id="r2")
    await export_evidence(engine, "r2", tmp_path)
    await engine.delete_run("r1", "old", carry_over=True)
    found = await check_evidence(engine, "r2", tmp_path)
    assert (found.holds, found.differing) == (True, [])
    bundle = json.loads((tmp_path / "bundle.json").read_text())
    attempt = bundle["branches"][0]["steps"][0]["attempts"][0]
    del attempt["attempt_id"]
    for forged in ({}, {"attempt_id": "forged"}, {"attempt_id": 7}):
        attempt |= forged
        (tmp_path / "bundle.json").write_text(json.dumps(bundle))
        found = await check_evidence(engine, "r2", tmp_path)
        assert found.differing == ["branches[0].steps[0].attempts[0].attempt_id"]


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 4, 1, 3), (3, 1, 4, 2)])
async def test_evidence_holds_after_all_sources_are_deleted(
    tmp_path: Path, engine: Engine, order: tuple[int, ...]
) -> None:
    """A bundle holds after all sources of its run were deleted in any order; a forged id is found."""
    source = await engine.create_run("r1")
    async with source.attempt("s"):
        pass
    for number in range(2, 6):
        await engine.fork_run(f"r{number - 1}", run_id=f"r{number}")
    await export_evidence(engine, "r5", tmp_path)
    for number in order:
        await engine.delete_run(f"r{number}", "old", carry_over=True)
        found = await check_evidence(engine, "r5", tmp_path)
        assert (found.holds, found.differing) == (True, [])
    bundle = json.loads((tmp_path / "bundle.json").read_text())
    bundle["branches"][0]["steps"][0]["attempts"][0]["attempt_id"] = "forged"
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    found = await check_evidence(engine, "r5", tmp_path)
    assert found.differing == ["branches[0].steps[0].attempts[0].attempt_id"]


async def test_what_a_fork_shows_of_an_erased_source_is_not_forged(tmp_path: Path, engine: Engine) -> None:
    """A bundle of a fork holds after an erasure in a source, which the check names as erased."""
    source = await engine.create_run("r1", description="a name")
    await source.log_step("s", status="COMPLETED", message="a name")
    await engine.fork_run("r1", run_id="r2")
    await engine.fork_run("r2", run_id="r3")
    await export_evidence(engine, "r3", tmp_path)
    for version in (1, 2):
        await engine.erase("r1", None, version, "a name was in it")
    found = await check_evidence(engine, "r3", tmp_path)
    assert (found.holds, found.erased) == (True, ["branches[0].steps[0].message", "run.description"])


async def test_what_a_document_calls_artifacts_is_compared(engine: Engine, tmp_path: Path) -> None:
    """The check compares a recorded field that is itself called `artifacts`."""
    run = await engine.create_run("r1")
    await (await run.branch(None)).log_step("fit", details={"artifacts": "model.bin"})
    await export_evidence(engine, "r1", tmp_path)
    edited = (tmp_path / "bundle.json").read_text().replace("model.bin", "other.bin")
    (tmp_path / "bundle.json").write_text(edited)

    found = await check_evidence(engine, "r1", tmp_path)
    assert found.differing == ["branches[0].steps[0].details.artifacts"]


async def test_no_evidence_is_an_error_with_a_name(engine: Engine, tmp_path: Path) -> None:
    """Checking a folder without a bundle raises EvidenceNotFound."""
    await engine.create_run("r1")
    with pytest.raises(EvidenceNotFound, match=r"bundle\.json"):
        await check_evidence(engine, "r1", tmp_path)


async def test_inherited_steps_are_marked_in_evidence(engine: Engine, tmp_path: Path) -> None:
    """The bundle and the report of a fork mark inherited steps, and the report has the fork's own attempts."""
    source = await engine.create_run("bad")
    async with source.attempt("prep"):
        pass
    fork = await engine.fork_run("bad", run_id="good")
    async with fork.attempt("train"):
        pass
    bundle = await export_evidence(engine, "good", tmp_path)
    (branch,) = bundle["branches"]
    assert [(step["step"], step["inherited_from"]) for step in branch["steps"]] == [
        ("prep", Origin("bad", "", 4)),
        ("train", None),
    ]
    report = (tmp_path / "report.md").read_text()
    assert "prep (inherited from bad, (root) 4)" in report.replace("\\", "")
    _, attempts = report.split("## Attempts at other steps")
    assert [line.split("|")[2:5] for line in attempts.splitlines() if "train" in line] == [
        [" train ", " 1 ", " COMPLETED "]
    ]
    assert (await check_evidence(engine, "good", tmp_path)).holds


@pytest.mark.parametrize("edited", [False, True])
async def test_a_bundle_of_version_1_is_still_checked(engine: Engine, tmp_path: Path, *, edited: bool) -> None:
    """A bundle of format version 1 is compared in all fields that it has."""
    run = await engine.create_run("r1")
    async with run.attempt("s"):
        pass
    await run.set_status("COMPLETED")
    await export_evidence(engine, "r1", tmp_path)
    bundle = json.loads((tmp_path / "bundle.json").read_text())
    bundle["format_version"] = 1
    del bundle["run"]["status_changed_at"]
    (step,) = bundle["branches"][0]["steps"]
    del step["inherited_from"]
    if edited:
        step["status"] = "FAILED"
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    found = await check_evidence(engine, "r1", tmp_path)
    assert found.differing == (["branches[0].steps[0].status"] if edited else [])
