"""The benchmark at tiny sizes: every peer keeps what it acknowledged, and the report contains what it promises.

No test here depends on how long anything takes.
"""

import sqlite3
from contextlib import closing
from importlib import metadata
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from benchmarks.command import app
from benchmarks.isolation import in_fresh_process
from benchmarks.operations import Found
from benchmarks.peers.anabranch import FILE_NAME
from benchmarks.peers.plain_aiosqlite import PlainStore
from benchmarks.peers.registry import ANABRANCH, LIMIT, PEERS, PLAIN, PeerEntry
from benchmarks.report import Report
from benchmarks.scale import SMOKE
from benchmarks.works import left_out, parallel_processes, parallel_writes, statements_alone
from benchmarks.works.registry import WORKS
from benchmarks.writing import write


def run(*options: str, folder: Path) -> Result:
    """Run the benchmark command in this process; it measures in other processes."""
    return CliRunner().invoke(app, ["--smoke", "--rounds", "1", "--folder", str(folder), *options])


def _in_the_long_run(peer: PeerEntry) -> bool:
    return peer.name not in (ANABRANCH, PLAIN)


@pytest.mark.parametrize(
    "peer",
    [pytest.param(each, marks=[pytest.mark.slow] if _in_the_long_run(each) else []) for each in PEERS],
    ids=lambda peer: peer.name,
)
def test_a_peer_keeps_what_it_acknowledged(peer: PeerEntry, tmp_path: Path) -> None:
    """Every acknowledged operation is in the peer's own store afterwards."""
    if peer.version is None:
        pytest.skip(f"{peer.distribution} is not installed: pip install 'anabranch[{peer.extra}]'")
    measured = in_fresh_process(parallel_writes.measure, peer.name, tmp_path, SMOKE)
    assert (measured.missing, measured.errors) == (0, {})
    assert measured.durability
    assert measured.figures["operations_per_s"] > 0


def test_the_report_is_whole(tmp_path: Path) -> None:
    """The report on anabranch has every work with its figures, decodes as `Report`, and leaves no files behind.

    Works W1 and W2 have tests of their own.
    """
    works = [work.name for work in WORKS if work not in (parallel_writes.WORK, parallel_processes.WORK)]
    document = tmp_path / "report.json"
    folder = tmp_path / "work"
    folder.mkdir()
    chosen = [option for work in works for option in ("--work", work)]
    result = run("--peer", "anabranch", "--json", str(document), *chosen, folder=folder)
    assert result.exit_code == 0, result.output
    report = msgspec.json.decode(document.read_bytes(), type=Report)
    assert [work.work for work in report.works] == works
    assert report.is_whole
    assert all(row.figures for work in report.works for row in work.rows)
    assert report.machine.cores >= 1
    assert report.versions["anabranch"] == f"anabranch {metadata.version('anabranch')}"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("peer", [ANABRANCH, *(pytest.param(each, marks=pytest.mark.slow) for each in (LIMIT, PLAIN))])
def test_several_processes_lose_nothing(peer: str, tmp_path: Path) -> None:
    """A peer that several processes write to at once keeps every operation that it acknowledged."""
    measured = parallel_processes.measure(peer, tmp_path, SMOKE)
    assert (measured.missing, measured.errors) == (0, {})


SET = "events WHERE event_type = 'ParametersSet'"


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        ("without hashes", f"{SET} AND hash != zeroblob(32)"),
        ("without rows of events", SET),
        ("without rows of views", "step_logs"),
        ("without stream heads on disk", "streams WHERE branch != '' AND version > 1"),
        ("without recording at all", SET),
    ],
)
def test_a_part_is_left_out_and_back_afterwards(part: str, rows: str, tmp_path: Path) -> None:
    """A measurement without a part writes no rows of that part, and the next complete measurement writes them again."""
    for name in (part, ANABRANCH):
        folder = tmp_path / name
        folder.mkdir()
        assert left_out.measure(name, folder, SMOKE).figures["us_per_pair"] > 0
        with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
            found = connection.execute(f"SELECT count(*) FROM {rows}").fetchone()[0]
        assert (found == 0) is (name == part)


def test_all_statements_are_run_again_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of repeated statements has as many rows as the engine wrote; a lack makes the measurement fail."""
    assert left_out.measure(left_out.STATEMENTS, tmp_path, SMOKE).figures["us_per_pair"] > 0
    counts = []
    for name in (FILE_NAME, statements_alone.REPEATED_FILE_NAME):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            tables = ("events", "parameters", "step_logs", "task_attempts")
            counts.append([connection.execute(f"SELECT count(*) FROM {each}").fetchone()[0] for each in tables])
    assert counts[0] == counts[1]
    assert 0 not in counts[0]

    monkeypatch.setattr(statements_alone, "_run", lambda connection, statements: None)
    with pytest.raises(RuntimeError, match="were not repeated"):
        left_out.measure(left_out.STATEMENTS, tmp_path / "again", SMOKE)


def test_what_a_peer_has_lost_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement counts each step that a peer acknowledged and lost as missing."""

    async def forgetful(store: PlainStore) -> dict[str, Found]:
        del store
        return {f"fit.branch-{number}": Found(2, 1) for number in range(SMOKE.branches)}

    monkeypatch.setattr(PlainStore, "found", forgetful)
    assert write(PLAIN, tmp_path, SMOKE).missing == SMOKE.branches


def test_a_peer_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says that a peer is not installed and which extra installs it, and the command succeeds."""
    version = metadata.version

    def without_dagster(distribution: str) -> str:
        if distribution == "dagster":
            raise metadata.PackageNotFoundError(distribution)
        return version(distribution)

    monkeypatch.setattr(metadata, "version", without_dagster)
    result = run("--peer", "dagster", "--peer", "plain", "--work", "W1", folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert "left out: dagster event log" in result.output
    assert "anabranch[bench]" in result.output


def test_a_picture_has_a_panel_for_each_work_and_none_besides(tmp_path: Path) -> None:
    """The picture has exactly one panel for each work, also for an odd number of works."""
    pytest.importorskip("matplotlib", reason="a picture needs pip install 'anabranch[bench]'")
    picture = tmp_path / "picture.svg"
    works = [option for work in ("W4", "W8", "W10") for option in ("--work", work)]
    result = run("--peer", "anabranch", "--plot", str(picture), *works, folder=tmp_path)
    assert result.exit_code == 0, result.output
    drawn = picture.read_text()
    assert [drawn.count(f'id="axes_{number}"') for number in (1, 2, 3, 4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--work", "W99"], "'W99' is none of W1, W2"),
        (["--peer", "nobody"], "no installed participant is called 'nobody'"),
        (["--plot", "picture.pdf"], "ends neither in .svg nor in .png"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_measured(options: list[str], said: str, tmp_path: Path) -> None:
    """A wrong option ends the command with exit code 2 and a message that names the value."""
    result = run(*options, folder=tmp_path)
    assert result.exit_code == 2
    assert said in result.output
