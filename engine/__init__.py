"""anabranch: an async, event-sourced storage engine for workflow runs.

`open_engine` is the door. The errors are in `engine.errors`, the events in `engine.events`, what reads return in
`engine.model`, the stores for other systems in `engine.stores`.
"""

from engine.attempt import Attempt
from engine.branch import Branch
from engine.composition import open_engine
from engine.engine import Engine
from engine.errors import AnabranchError
from engine.events import RecordedEvent
from engine.expected_version import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion
from engine.model import AttemptDocument, Parameter, TaskSpec
from engine.point import Position
from engine.run import Run

__all__ = [
    "ANY",
    "NO_STREAM",
    "STREAM_EXISTS",
    "AnabranchError",
    "Attempt",
    "AttemptDocument",
    "Branch",
    "Engine",
    "ExpectedVersion",
    "Parameter",
    "Position",
    "RecordedEvent",
    "Run",
    "TaskSpec",
    "open_engine",
]
