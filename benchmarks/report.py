"""The report of one run, which `--json` writes."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from benchmarks.goals import Goal
from benchmarks.machine import Machine
from benchmarks.peers.registry import PEERS
from benchmarks.results import LeftOut, WorkResult
from benchmarks.scale import Scale

STANDARD_OUTPUT: Final = Path("-")
FORMAT: Final = 1


class Report(Struct, frozen=True, kw_only=True):
    """One run. `versions` are those of the peers' packages, by the peers' names.

    Each row of each work has its figures by name, and each figure its `median`, `least` and `most`, and all `rounds`.
    """

    format: int = FORMAT
    machine: Machine
    rounds: int
    scale: Scale
    versions: dict[str, str]
    left_out: list[LeftOut]
    works: list[WorkResult]
    goals: list[Goal]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing and there are no errors."""
        return not any(row.missing or row.errors for work in self.works for row in work.rows)


def installed_versions() -> dict[str, str]:
    """Return the version of each installed peer's package."""
    return {peer.name: f"{peer.distribution} {peer.version}" for peer in PEERS if peer.version is not None}


def not_installed() -> list[LeftOut]:
    """Return the peers whose package is missing."""
    return [LeftOut(peer.name, peer.extra) for peer in PEERS if peer.version is None]


def as_json(report: Report) -> str:
    """Return the report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
