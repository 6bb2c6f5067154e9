"""Verification of a file with lost pages: it names what cannot be read, and checks everything else."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine import open_engine
from engine.checkpoint import Checkpoint
from engine.cli import main
from engine.codec import encode_canonical
from engine.errors import ReadFailed

_PAGE_BYTES = 4096


async def _recorded(path: Path) -> Checkpoint:
    """Record three runs, each with some pages of its own; the second is called `b`."""
    async with open_engine(path) as engine:
        for run_id in ("a", "b", "c"):
            run = await engine.create_run(run_id=run_id)
            for number in range(40):
                await run.set_parameters({"note": _note(run_id, number)})
        return await engine.checkpoint()


def _note(run_id: str, number: int) -> str:
    return f"{run_id} says {number:02} {'.' * 900}"


def _lose_page(path: Path, text: bytes) -> None:
    """Overwrite the page that contains a text with zeros, as a failing disk may."""
    content = bytearray(path.read_bytes())
    page = content.index(text) // _PAGE_BYTES * _PAGE_BYTES
    content[page : page + _PAGE_BYTES] = bytes(_PAGE_BYTES)
    path.write_bytes(content)


async def test_the_run_is_named_and_the_others_are_checked(tmp_path: Path) -> None:
    """`verify` names the unreadable run, counts what it could read of it, and finds changes in other runs.

    It also reports that it cannot prove that nothing lies between the runs.
    """
    path = tmp_path / "runs.db"
    checkpoint = await _recorded(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET payload = x'00' WHERE root_id = 3 AND stream_version = 5")
    _lose_page(path, encode_canonical(_note("b", 20)))
    async with open_engine(path) as engine:
        found = await engine.verify()
        since = await engine.verify(since=checkpoint)
        alone = await engine.verify("b")
    between, unreadable, changed = found.problems
    assert (between.kind, between.run_id) == ("unreadable", None)
    assert (unreadable.kind, unreadable.run_id) == ("unreadable", "b")
    assert unreadable.message.endswith("database disk image is malformed")
    assert (changed.kind, changed.run_id, changed.stream_version) == ("payload", "c", 5)
    assert since.problems == found.problems
    assert alone.problems == [unreadable]
    assert found.runs == 3
    assert 41 + 41 < found.events < 3 * 41


async def test_a_fork_of_what_is_lost_is_checked(tmp_path: Path) -> None:
    """A fork of an unreadable run is verified itself, and changes in it are found."""
    path = tmp_path / "runs.db"
    await _recorded(path)
    async with open_engine(path) as engine:
        fork = await engine.fork_run("b", run_id="fork")
        await fork.set_parameters({"own": 1})
        await engine.fork_run("b", run_id="early", at=3)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET payload = x'00' WHERE root_id = 4 AND stream_version = 2")
    _lose_page(path, encode_canonical(_note("b", 20)))
    async with open_engine(path) as engine:
        problems = [(each.kind, each.run_id) for each in (await engine.verify()).problems]
    assert problems == [("unreadable", None), ("unreadable", "b"), ("payload", "fork")]


async def test_what_cannot_be_read_is_not_compacted(tmp_path: Path) -> None:
    """`compact` refuses a file with an unreadable page and writes nothing."""
    path = tmp_path / "runs.db"
    await _recorded(path)
    _lose_page(path, encode_canonical(_note("b", 20)))
    before = path.read_bytes()
    async with open_engine(path) as engine:
        with pytest.raises(ReadFailed, match="nothing was written"):
            await engine.compact()
    assert path.read_bytes() == before


async def test_a_log_whose_end_is_lost_is_checked_up_to_there(tmp_path: Path) -> None:
    """A log whose last page is lost is verified up to there, as a whole, against a checkpoint, and for one run."""
    path = tmp_path / "runs.db"
    checkpoint = await _recorded(path)
    _lose_page(path, encode_canonical(_note("c", 39)))
    async with open_engine(path) as engine:
        for found in (await engine.verify(), await engine.verify(since=checkpoint), await engine.verify("c")):
            assert {problem.kind for problem in found.problems} == {"unreadable"}
            assert found.problems[0].message == "the end of the log cannot be read: database disk image is malformed"
            assert found.problems[-1].run_id == "c"
        assert (await engine.verify("a")).problems == found.problems[:1]


async def test_a_file_whose_list_of_deleted_runs_is_lost_is_checked_without(tmp_path: Path) -> None:
    """`verify` reports a list of deleted runs that cannot be read."""
    path = tmp_path / "runs.db"
    await _recorded(path)
    async with open_engine(path) as engine:
        await engine.delete_run("b", "no longer needed, as everybody could read here")
    _lose_page(path, b"no longer needed, as everybody could read here")
    async with open_engine(path) as engine:
        messages = [problem.message for problem in (await engine.verify()).problems]
    assert "the list of the runs cannot be read: database disk image is malformed" in messages


def test_the_command_and_the_doctor_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`anabranch verify` and `anabranch doctor` name the unreadable run and exit with 1."""
    path = tmp_path / "runs.db"
    asyncio.run(_recorded(path))
    _lose_page(path, encode_canonical(_note("b", 20)))
    assert main(["verify", "--db", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "2 problems, the first of each broken branch"
    assert lines[2] == "unreadable  the store"
    assert lines[4].startswith("unreadable  run b")
    assert main(["doctor", "--db", str(path)]) == 1
    assert "; unreadable, run b: an event after position" in capsys.readouterr().out
