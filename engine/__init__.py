"""anabranch: an async, event-sourced storage engine for workflow runs.

`open_engine` is the entry point. Errors are in `engine.errors` (those of imports and exports in `engine.transfer`,
those of evidence in `engine.reports.evidence`), events in `engine.events`, most result types in `engine.model`, the
engine for synchronous callers in `engine.blocking`, and the stores for other systems in `engine.stores`.
"""

from engine.checkpoint import Checkpoint
from engine.composition import open_engine
from engine.errors import AnabranchError
from engine.events import RecordedEvent
from engine.expected_version import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion
from engine.findings import Verification
from engine.handles.attempt import Attempt
from engine.handles.branch import Branch
from engine.handles.engine import Engine
from engine.handles.reducing import Rule
from engine.handles.run import Run
from engine.lineage import Lineage
from engine.model import AttemptDocument, Parameter, Reduction, TaskSpec
from engine.point import Point, Position
from engine.ports import Recorded
from engine.subscription import Subscription

__all__ = [
    "ANY",
    "NO_STREAM",
    "STREAM_EXISTS",
    "AnabranchError",
    "Attempt",
    "AttemptDocument",
    "Branch",
    "Checkpoint",
    "Engine",
    "ExpectedVersion",
    "Lineage",
    "Parameter",
    "Point",
    "Position",
    "Recorded",
    "RecordedEvent",
    "Reduction",
    "Rule",
    "Run",
    "Subscription",
    "TaskSpec",
    "Verification",
    "open_engine",
]
