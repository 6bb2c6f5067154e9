"""`anabranch export` and `anabranch import`: between files, through pipes, and interrupted."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runnable.datastore import RunLog
from typer.testing import CliRunner

from engine import open_engine
from engine.cli import main
from engine.cli.file_output import FileIsThere, whole_file
from engine.cli.new_database import MadeMeanwhile, new_database
from engine.codec import EVENT_BYTES_MAX
from engine.errors import FolderNotWritable
from engine.logs import mounts as mounts_module
from engine.model import AttemptDocument
from tests.exports import documents, rows
from tests.golden.make_database import fill
from tests.integration.backups import refuse_links

_COMMAND = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())"]

Ran = Callable[..., tuple[int, str, str]]


async def _record(database: Path) -> None:
    async with open_engine(database, durability="relaxed") as engine:
        await fill(engine)
        await engine.create_run("evidence")


@pytest.fixture
def recorded(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with four runs, in the current folder."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    monkeypatch.chdir(tmp_path)
    asyncio.run(_record(database))
    return database


@pytest.fixture
def ran(recorded: Path, capfd: pytest.CaptureFixture[str]) -> Ran:
    """Run a command; return its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments)])
        return code, *capfd.readouterr()

    return run


def runs_of(export: str) -> list[str]:
    return [line["run"] for line in documents(export.encode()) if line["line"] == "run"]


def test_there_and_back_is_the_same(ran: Ran, tmp_path: Path) -> None:
    """An export that is imported into a new database and exported again is the same in every byte."""
    assert ran("export", "--all", "--to", "all.jsonl") == (0, "", "wrote all.jsonl\n")
    code, shown, _ = ran("import", "all.jsonl", "--db", "other.db")
    assert (code, shown) == (0, "imported 4 runs with 31 events, every hash checked\n")

    code, again, _ = ran("export", "--all", "--db", "other.db")
    assert again == (tmp_path / "all.jsonl").read_text()
    assert ran("verify", "--db", "other.db")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["nightly"], ["nightly"]),
        (["empty", "nightly"], ["nightly", "empty"]),
        (["--all"], ["nightly", "forked", "empty", "evidence"]),
        (["forked", "--with-sources"], ["nightly", "forked"]),
        (["runs", "forked"], ["forked"]),
        (["--format", "jsonl", "empty"], ["empty"]),
        (["nightly", "--to", "-"], ["nightly"]),
        (["runs", "evidence"], ["evidence"]),
        (["--compact", "evidence"], ["evidence"]),
    ],
    ids=" ".join,
)
def test_one_run_several_or_all(ran: Ran, arguments: list[str], runs: list[str]) -> None:
    """`export` writes the selected runs in the order in which they were created, whatever their names are."""
    code, shown, _ = ran("export", *arguments)
    assert (code, runs_of(shown)) == (0, runs)


def test_evidence_is_still_exported(ran: Ran, tmp_path: Path) -> None:
    """`export evidence RUN` writes a bundle of evidence, not the run named `evidence`."""
    assert ran("export", "evidence", "nightly", "--to", "folder")[0] == 0
    assert (tmp_path / "folder" / "bundle.json").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["r1", "--all"], ["r1", "--format", "xml"], ["nightly", "forked", "--format", "json"]]
)
def test_a_command_line_that_says_too_little_or_too_much(ran: Ran, arguments: list[str]) -> None:
    """`export` needs either run ids or `--all`, a known format, and a folder for several run logs."""
    assert ran("export", *arguments)[0] == 2


def test_existing_files_are_not_overwritten(ran: Ran, recorded: Path, tmp_path: Path) -> None:
    """`export` overwrites a file only with `--force`, and never the database or the files that belong to it."""
    (tmp_path / "mine").write_text("mine")

    code, _, error = ran("export", "nightly", "--to", "mine")
    assert (code, error) == (1, "anabranch: FileIsThere: 'mine' exists; --force overwrites it\n")
    assert (tmp_path / "mine").read_text() == "mine"
    assert ran("export", "nightly", "--to", "mine", "--force")[0] == 0
    assert runs_of((tmp_path / "mine").read_text()) == ["nightly"]
    before = rows(recorded)
    for suffix in ("", "-wal", "-lock"):
        beside = recorded.with_name(f"{recorded.name}{suffix}")
        assert ran("export", "nightly", "--force", "--to", beside)[0] == 2
    assert rows(recorded) == before
    assert ran("export", "nightly", "--to", recorded.with_name(f"{recorded.name}-2026.jsonl"))[0] == 0


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_created_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """A file created under the target name during an export is kept, and nothing is left of the export."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    with contextlib.ExitStack() as writing:
        writing.enter_context(whole_file(tmp_path / "mine", overwrite=False)).write(b"an export")
        (tmp_path / "mine").write_text("mine")
        with pytest.raises(FileIsThere):
            writing.close()
    assert [each.read_text() for each in tmp_path.iterdir()] == ["mine"]


def test_an_export_that_fails_leaves_no_file(ran: Ran, tmp_path: Path) -> None:
    """An export that fails leaves neither its target nor a partial file."""
    before = set(tmp_path.iterdir())
    assert ran("export", "nightly", "r9", "--to", "out")[0] == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("target", ["missing/out", "folder"])
def test_an_export_that_cannot_be_written_names_its_file(ran: Ran, tmp_path: Path, target: str) -> None:
    """The error of an export that cannot be written names the target, not the temporary file."""
    (tmp_path / "folder").mkdir()
    code, _, error = ran("export", "nightly", "--to", target, "--force")
    assert (code, error.endswith(f": '{target}'\n")) == (1, True)


@pytest.mark.parametrize("target", [".", "/", "pipe", "folder"])
def test_an_export_replaces_only_files(ran: Ran, tmp_path: Path, target: str) -> None:
    """Not even `--force` replaces a folder, a pipe or a device, nor is it suggested: as root, it would remove them."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for force in ((), ("--force",)):
        code, _, error = ran("export", "nightly", "--to", target, *force)
        assert (code, error) == (1, f"anabranch: FileExistsError: [Errno 17] not a regular file: '{target}'\n")
    assert (sorted(tmp_path.iterdir()), (tmp_path / "pipe").is_fifo()) == (before, True)


@pytest.mark.parametrize("exists", [True, False], ids=["to a file", "dangling"])
def test_an_export_to_a_link_goes_where_the_link_leads(ran: Ran, tmp_path: Path, *, exists: bool) -> None:
    """`--force` on a symbolic link replaces or creates the file that it leads to; otherwise the link is in the way."""
    (tmp_path / "folder").mkdir()
    file, link = tmp_path / "folder" / "nightly.jsonl", tmp_path / "latest"
    link.symlink_to("folder/nightly.jsonl")
    if exists:
        file.write_text("of yesterday")
    assert ran("export", "nightly", "--to", "latest")[0] == 1
    assert file.exists() == exists
    assert ran("export", "nightly", "--to", "latest", "--force")[0] == 0
    assert (link.is_symlink(), runs_of(file.read_text())) == (True, ["nightly"])
    assert [*(tmp_path / "folder").iterdir()] == [file]


def test_an_export_to_a_link_does_not_replace_the_database(ran: Ran, recorded: Path, tmp_path: Path) -> None:
    """Not even through a symbolic link is an export written over the database or a file that belongs to it.

    In a folder, a link in the place of a file is replaced itself.
    """
    before = rows(recorded)
    for suffix in ("", "-wal", "-lock"):
        (tmp_path / f"link{suffix}").symlink_to(f"{recorded.name}{suffix}")
        assert ran("export", "nightly", "--force", "--to", f"link{suffix}")[0] == 2
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "nightly.json").symlink_to(recorded)
    assert ran("export", "nightly", "--force", "--format", "json", "--to", "logs/nightly.json")[0] == 2
    assert ran("export", "nightly", "--force", "--format", "json", "--to", "logs")[0] == 0
    assert not (tmp_path / "logs" / "nightly.json").is_symlink()
    (tmp_path / "loop").symlink_to("loop")
    assert ran("export", "nightly", "--force", "--to", "loop")[0] == 1
    assert (rows(recorded), (tmp_path / "loop").is_symlink()) == (before, True)


def test_an_import_counts_runs_that_were_already_there(ran: Ran) -> None:
    """`import` says, as text and as JSON, which runs existed already."""
    ran("export", "--all", "--to", "all.jsonl")
    ran("export", "nightly", "--to", "one.jsonl")
    ran("import", "one.jsonl", "--db", "other.db")

    code, shown, _ = ran("import", "all.jsonl", "--db", "other.db", "--json")
    document = json.loads(shown)
    assert (code, document["events"]) == (0, 3)
    assert [(each["run_id"], each["existed"]) for each in document["runs"]][:2] == [
        ("nightly", True),
        ("forked", False),
    ]
    _, shown, _ = ran("import", "all.jsonl", "--db", "other.db")
    assert shown.splitlines()[1] == "4 runs of the file were already there, identical in every byte"


def test_refused_files_change_nothing(ran: Ran, tmp_path: Path) -> None:
    """A refused import names the line and the fault, and creates no database."""
    ran("export", "--all", "--to", "all.jsonl")
    whole = (tmp_path / "all.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(whole[:-50])
    before = {*tmp_path.iterdir()}

    code, shown, error = ran("import", "cut.jsonl", "--db", "other.db")
    assert (code, shown) == (1, "")
    assert error.startswith(f"anabranch: ExportCutShort: line {len(whole.splitlines()) - 1}: ")
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_database_that_is_made_by_an_import(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """A database created by an import is whole, readable by its owner only, and alone in its folder."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    ran("export", "--all", "--to", "all.jsonl")
    assert ran("import", "all.jsonl", "--db", "new/folder/other.db")[0] == 0
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["other.db"]
    assert (tmp_path / "new" / "folder" / "other.db").stat().st_mode & 0o777 == 0o600
    assert ran("verify", "--db", "new/folder/other.db")[0] == 0


def test_a_database_is_made_on_no_network_file_system(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`import` refuses to create a database on a network file system, and names the folder."""
    ran("export", "--all", "--to", "all.jsonl")
    before = {*tmp_path.iterdir()}
    monkeypatch.setattr(mounts_module, "mounted_as", lambda *_: "nfs4")
    code, shown, error = ran("import", "all.jsonl", "--db", "other.db")
    assert (code, shown) == (1, "")
    assert error.startswith("anabranch: NetworkFileSystem: ")
    assert f"cannot open '{tmp_path}': " in error
    assert {*tmp_path.iterdir()} == before


def test_no_database_is_created_through_circular_links(ran: Ran, tmp_path: Path) -> None:
    """`import` through a symbolic link that points to itself raises CannotOpen."""
    ran("export", "--all", "--to", "all.jsonl")
    (tmp_path / "loop").symlink_to("loop")
    code, shown, error = ran("import", "all.jsonl", "--db", "loop/other.db")
    assert (code, shown, error.count("\n")) == (1, "", 1)
    assert error.startswith("anabranch: CannotOpen: ")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("demo", "--db", "loop/x.db"), "CannotOpen"),
        (("runs", "--db", "loop/x.db"), ""),
        (("doctor", "--db", "loop/x.db"), ""),
        (("backup", "loop/x.db"), "BackupFailed"),
        (("export", "--all", "--to", "loop/x.jsonl"), "CannotOpen"),
    ],
)
def test_links_in_a_circle_are_an_error_with_a_name(
    ran: Ran, tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    """A path through a symbolic link that points to itself is one line of error in every command."""
    (tmp_path / "loop").symlink_to("loop")
    code, shown, error = ran(*command)
    assert (code, shown, error.count("\n")) == (1, "", 1)
    assert error.startswith(f"anabranch: {name}")


@pytest.mark.parametrize("name", ["other.db", "other.db-wal"])
async def test_a_database_created_meanwhile_is_not_touched(tmp_path: Path, name: str) -> None:
    """A database that another process creates during an import into a new one is kept, and the import fails."""
    with pytest.raises(MadeMeanwhile, match="another process has created"):
        async with new_database(tmp_path / "other.db", event_bytes_max=EVENT_BYTES_MAX):
            (tmp_path / name).write_text("theirs")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "theirs"}


async def test_a_database_that_cannot_get_its_name_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file system refuses the name of a new database, the import fails with that reason and leaves nothing."""

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(FolderNotWritable, match="Input/output error"):
        async with new_database(tmp_path / "other.db", event_bytes_max=EVENT_BYTES_MAX):
            monkeypatch.setattr(Path, "hardlink_to", refused)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"hello\n", b"x" * 100_000])
def test_a_file_of_another_kind_makes_no_database(ran: Ran, tmp_path: Path, content: bytes) -> None:
    """`import` of a missing file, or of one that is no export, creates no database."""
    (tmp_path / "notes").write_bytes(content)

    assert ran("import", "notes", "--db", "other.db")[0] == 1
    assert ran("import", "nowhere", "--db", "other.db")[0] == 1
    assert not (tmp_path / "other.db").exists()


def test_a_larger_limit_takes_larger_events(ran: Ran, recorded: Path) -> None:
    """`import --event-bytes-max` admits events larger than the default limit."""

    async def record() -> None:
        async with open_engine(recorded, event_bytes_max=2**22) as engine:
            await engine.create_run("large", parameters={"x": "y" * 2**21})

    asyncio.run(record())
    ran("export", "large", "--to", "large.jsonl")

    assert "EventTooLarge" in ran("import", "large.jsonl", "--db", "other.db")[2]
    assert ran("import", "large.jsonl", "--db", "other.db", "--event-bytes-max", 2**22)[0] == 0


def test_through_a_pipe(recorded: Path, tmp_path: Path) -> None:
    """An export can be piped into an import; of two concurrent imports of one file, one records the events."""
    with subprocess.Popen([*_COMMAND, "export", "--all"], stdout=subprocess.PIPE) as exporting:
        first = subprocess.run([*_COMMAND, "import", "-", "--db", "other.db"], stdin=exporting.stdout, check=False)
    assert (first.returncode, exporting.returncode) == (0, 0)

    (tmp_path / "all.jsonl").write_bytes(subprocess.check_output([*_COMMAND, "export", "--all"]))
    command = [*_COMMAND, "import", "all.jsonl", "--db", "third.db", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    answers = [json.loads(each.communicate()[0])["events"] for each in both]
    assert sorted(answers) == [0, 31]


def test_an_export_interrupted_leaves_no_file(recorded: Path, tmp_path: Path) -> None:
    """An interrupted export exits with 130 and removes its temporary file."""
    script = (
        "import sys\nfrom engine.cli import main\nfrom engine.logs import sqlite_export\n"
        "given = sqlite_export._RunExport.next_chunk\n"
        "def held(*arguments):\n"
        "    print('exporting', flush=True)\n    sys.stdin.read()\n    return given(*arguments)\n"
        "sqlite_export._RunExport.next_chunk = held\n"
        "sys.exit(main(['export', '--all', '--to', 'all.jsonl']))"
    )
    before = set(tmp_path.iterdir())
    exporting = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert exporting.stdout is not None
    assert exporting.stdout.readline() == b"exporting\n"
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".all.jsonl.")]) == 1
    exporting.send_signal(signal.SIGINT)
    _, complaints = exporting.communicate()

    assert (exporting.returncode, complaints) == (130, b"")
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "runs.db-wal", tmp_path / "runs.db-shm"}


def test_an_import_interrupted_leaves_the_store_as_it_was(ran: Ran, tmp_path: Path) -> None:
    """An interrupted import exits silently with 130, leaves no new database, and can be repeated."""
    ran("export", "--all", "--to", "all.jsonl")
    before = {*tmp_path.iterdir()}
    script = (
        "import sys\nfrom engine.cli import main\nfrom engine.logs import sqlite_import, sqlite_transfer\n"
        "given = sqlite_transfer._Job._pause\n"
        "def held(job):\n    print('importing', flush=True)\n    job._stopped.wait()\n    return given(job)\n"
        "sqlite_transfer._Job._pause, sqlite_import.CHUNK_EVENTS = held, 20\n"
        "sys.exit(main(['import', 'all.jsonl', '--db', 'other.db']))"
    )
    importing = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert importing.stdout is not None
    assert importing.stdout.readline() == b"importing\n"
    importing.send_signal(signal.SIGINT)
    _, complaints = importing.communicate()

    assert (importing.returncode, complaints) == (130, b"")
    assert {*tmp_path.iterdir()} == before
    assert ran("import", "all.jsonl", "--db", "other.db")[0] == 0


async def _record_fits(database: Path) -> None:
    async with open_engine(database, durability="relaxed") as engine:
        run = await engine.create_run("fits", parameters={"lr": 0.1})
        a = await run.fork("fit.a")
        async with a.attempt("train", inputs={"lr": 0.1}) as attempt:
            await attempt.update(external_id="job-7")
        async with a.attempt("a.b"):
            pass
        await run.log_step("done", attempts=[AttemptDocument(status="COMPLETED")])
        await run.finalize("COMPLETED")


def _timeline(log: Path) -> str:
    from runnable.cli import app  # noqa: PLC0415 - importing it configures logging

    result = CliRunner().invoke(app, ["timeline", str(log), "--no-open"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_hosts_own_timeline_draws_a_compiled_log(ran: Ran, recorded: Path, tmp_path: Path) -> None:
    """The host's models load an exported run log, and its timeline command draws every step."""
    asyncio.run(_record_fits(recorded))
    assert ran("export", "fits", "--format", "json", "--to", ".run_log_store/fits.json")[0] == 0
    log = tmp_path / ".run_log_store" / "fits.json"

    document = json.loads(log.read_text())
    assert RunLog(**document).run_id == "fits"
    assert document["status"] == "SUCCESS"
    assert document["parameters"] == {"lr": {"value": 0.1, "kind": "json"}}
    train = document["steps"]["fit"]["branches"]["fit.a"]["steps"]["fit.a.train"]
    assert train["attempts"][0]["input_parameters"] == {"lr": {"value": 0.1, "kind": "json"}}
    drawn = _timeline(log)
    assert "train" in drawn
    assert "fit.a.train" in (tmp_path / "fits_timeline.html").read_text()


def test_compiled_logs_of_several_runs_go_into_a_folder(ran: Ran, tmp_path: Path) -> None:
    """`export --format json` writes one file for each run; a slash in a run id is encoded."""

    async def record() -> None:
        async with open_engine(tmp_path / "runs.db") as engine:
            await engine.create_run("../up")

    asyncio.run(record())
    assert ran("export", "--all", "--format", "json", "--to", "logs")[0] == 0
    found = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert found == ["..%2Fup.json", "empty.json", "evidence.json", "forked.json", "nightly.json"]
    for path in (tmp_path / "logs").iterdir():
        assert RunLog(**json.loads(path.read_text())).status


@pytest.mark.parametrize("target", ["there", "new/", "new/below/"])
def test_a_compiled_log_in_a_folder_is_reported_with_its_name(ran: Ran, tmp_path: Path, target: str) -> None:
    """One run log goes into a folder that is there, or that a slash marks, and `export` names the file it wrote."""
    (tmp_path / "there").mkdir()
    written = Path(target) / "nightly.json"
    command = ("export", "nightly", "--format", "json", "--to", target)
    assert ran(*command) == (0, "", f"wrote {written}\n")
    assert written.is_file()
    assert json.loads(ran(*command, "--force", "--json")[1]) == {"written": str(written)}


def test_several_compiled_logs_are_counted(ran: Ran) -> None:
    """`export` says how many run logs it wrote into which folder."""
    assert ran("export", "nightly", "empty", "--format", "json", "--to", "logs")[2] == "wrote 2 run logs into logs\n"
    assert json.loads(ran("export", "--all", "--format", "json", "--to", "all", "--json")[1]) == {"written": "all"}


@pytest.mark.parametrize("runs", [0, 1])
def test_all_compiled_logs_go_into_a_folder_however_few(ran: Ran, tmp_path: Path, runs: int) -> None:
    """`export --all --format json` makes a folder also when there is one run, or none."""

    async def record() -> None:
        async with open_engine(tmp_path / "few.db") as engine:
            for number in range(runs):
                await engine.create_run(f"r{number}")

    asyncio.run(record())
    said = ran("export", "--all", "--format", "json", "--to", "logs", "--db", "few.db")
    assert said == (0, "", ["wrote 0 run logs into logs\n", "wrote 1 run log into logs\n"][runs])
    assert len([*(tmp_path / "logs").glob("*")]) == runs


def test_compiled_logs_of_long_run_ids_have_short_names(ran: Ran, tmp_path: Path) -> None:
    """A run id that is too long for a file name is cut between two characters, and stays unique."""
    ids = ["x" + "é" * 200 + end for end in "ab"]

    async def record() -> None:
        async with open_engine(tmp_path / "runs.db") as engine:
            for run_id in ids:
                await engine.create_run(run_id)

    asyncio.run(record())
    assert ran("export", *ids, "--format", "json", "--to", "logs")[0] == 0
    found = {json.loads(path.read_text())["run_id"]: path.name for path in (tmp_path / "logs").iterdir()}
    assert sorted(found) == ids
    assert all(name.startswith("x" + "é" * 49 + "%~") for name in found.values())
