"""anabranch: an async, event-sourced storage engine for workflow runs."""

from engine.attempt import Attempt
from engine.branch import Branch
from engine.composition import open_engine
from engine.engine import Engine
from engine.expected_version import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion
from engine.run import Run

__all__ = [
    "ANY",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Attempt",
    "Branch",
    "Engine",
    "ExpectedVersion",
    "Run",
    "open_engine",
]
