"""The benchmark's calculations: missing operations, sums of rounds, percentiles and durability in words."""

import importlib
import sqlite3
from pathlib import Path

import pytest

from benchmarks.durability import in_words, of_connection
from benchmarks.operations import Found, LogStep, SetParameters, compare, folded, operations_of_a_branch
from benchmarks.peers.registry import PeerEntry
from benchmarks.results import Measured, WorkResult, percentile, summed_up
from benchmarks.rounds import rotated
from benchmarks.works.work import Column


def test_operations_take_turns() -> None:
    """A branch's operations alternate between setting two parameters and logging a step."""
    first, second, third, _ = operations_of_a_branch(4)
    assert first == SetParameters({"epoch": 0, "loss": 1.0})
    assert second == LogStep("step-0")
    assert third == SetParameters({"epoch": 1, "loss": 0.5})


def test_what_a_store_has_lost_is_counted() -> None:
    """Missing operations are counted by kind, including those of branches that do not exist."""
    missing, wrong = compare({"a": Found(2, 1), "b": Found(2, 2)}, ["a", "b", "c"], 4)
    assert missing == 1 + 4
    assert not wrong


def test_what_a_store_has_too_much_of_is_an_error() -> None:
    """An operation recorded twice is an error and does not make up for a missing one."""
    missing, wrong = compare({"a": Found(3, 1)}, ["a"], 4)
    assert missing == 1
    assert list(wrong) == ["a: 1 operations more than were asked for"]


def test_children_are_folded_alike_everywhere() -> None:
    """The expected reduction takes the last epoch and the smallest loss."""
    assert folded([{"epoch": 1, "loss": 0.5}, {"epoch": 3, "loss": 0.7}]) == {"epoch": 3, "loss": 0.5}


def test_rounds_are_put_together() -> None:
    """A row has the median, least and most of each figure, and the sums of the missing operations and errors."""
    rounds = [
        Measured(figures={"operations_per_s": 10.0}, durability="no fsync", missing=1),
        Measured(errors={"locked": 2}),
        Measured(figures={"operations_per_s": 30.0}, missing=1, errors={"locked": 1}),
        Measured(figures={"operations_per_s": 20.0}),
    ]
    row = summed_up("someone", rounds)
    spread = row.figures["operations_per_s"]
    assert (spread.median, spread.least, spread.most, spread.rounds) == (20.0, 10.0, 30.0, [10.0, 30.0, 20.0])
    assert (row.durability, row.missing, row.errors) == ("no fsync", 2, {"locked": 3})


def test_percentiles_lie_among_the_values() -> None:
    """A percentile is one of the values, also of a single value."""
    assert percentile([7.0], 99) == 7.0
    assert percentile([float(n) for n in range(101)], 99) == 99.0


def test_every_participant_is_first_once() -> None:
    """Rotation puts each participant first in one round."""
    assert [list(rotated("abc", place)) for place in range(3)] == [list("abc"), list("bca"), list("cab")]


@pytest.mark.parametrize(
    ("journal_mode", "synchronous", "words"),
    [
        ("wal", 2, "fsync per commit (WAL, synchronous=FULL)"),
        ("wal", 1, "fsync per checkpoint (WAL, synchronous=NORMAL)"),
        ("delete", 2, "fsync per commit (DELETE, synchronous=FULL)"),
        ("wal", 0, "no fsync (WAL, synchronous=OFF)"),
    ],
)
def test_settings_are_put_into_words(journal_mode: str, synchronous: int, words: str) -> None:
    """A journal mode and a synchronous setting are described by when they sync."""
    assert in_words(journal_mode, synchronous) == words


def test_durability_is_asked_of_the_connection() -> None:
    """The durability is read from the connection's settings."""
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA synchronous = NORMAL")
    assert "MEMORY, synchronous=NORMAL" in of_connection(connection)
    connection.close()


def test_a_peer_that_is_not_installed_is_known_without_importing_it() -> None:
    """The version of a peer is looked up by its distribution, without importing the peer."""
    assert PeerEntry(name="nobody", path="nowhere:Nobody", distribution="no-such-distribution").version is None
    assert PeerEntry(name="anabranch", path="nowhere:Nobody").version


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_results_can_be_drawn(suffix: str, begins: bytes, tmp_path: Path) -> None:
    """Results can be drawn as SVG and PNG, also if a participant lacks the figure."""
    pytest.importorskip("matplotlib", reason="a picture needs it: pip install 'anabranch[bench]'")
    rows = [summed_up(name, [Measured(figures={"p50_ms": ms})]) for name, ms in (("anabranch", 0.5), ("other", 40.0))]
    result = WorkResult(work="W8", title="latency", rows=[*rows, summed_up("failed", [Measured(errors={"broken": 1})])])
    plot = importlib.import_module("benchmarks.plot")  # it imports matplotlib
    plot.draw(tmp_path / f"picture{suffix}", [(result, Column("p50_ms", "p50 ms", 2))] * 3)
    assert (tmp_path / f"picture{suffix}").read_bytes().startswith(begins)
