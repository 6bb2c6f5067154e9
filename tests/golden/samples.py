"""Sample events of every type, from which the golden file of encoded events is made once for each schema version.

`python -m tests.golden.samples` adds the samples of versions that the file does not have yet. Samples already in the
file are never regenerated, because they are what older code wrote.
"""

import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.codec import GENESIS_HASH, SCHEMA_VERSIONS, encode_canonical, link, payload_digest
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    BranchLogged,
    BranchStatusChanged,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    JobLogged,
    ParametersReduced,
    ParametersSet,
    PayloadErased,
    RunConfigured,
    RunCreated,
    RunFinalized,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
    SourceCarriedOver,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import (
    AttemptChanges,
    AttemptLog,
    CarriedStep,
    Head,
    Parameter,
    ParameterConflict,
    Source,
    StepLog,
    TaskSpec,
)

GOLDEN_EVENTS = Path(__file__).with_name("events.json")

NOON = datetime(2026, 1, 2, 12, 30, 15, 123456, tzinfo=UTC)
HASH = bytes(range(32))
EVENT_ID = bytes(range(16))
RECORDED_AT = 1_767_356_999_123_456
VALUES = {
    "json": Parameter({"b": [1, 2.5, None, True, "é\n"], "a": {}}),
    "metric": Parameter(0.1, "metric"),
    "object": Parameter("s3://bucket/key", "object"),
    "huge": Parameter(2**63 - 1),
    "tiny": Parameter(-(2**63)),
    "nan": Parameter(math.nan),
    "infinities": Parameter([math.inf, -math.inf, -0.0]),
}
SPEC = TaskSpec(
    image="ubuntu:24.04",
    command="python train.py",
    files={"a.txt": "text", "b": {"path": "/b"}},
    env={"A": "1"},
    dependencies=["prepare"],
    cores=4,
    memory_gb=1.5,
    gpus=1,
    time_limit_minutes=60,
    allow_dependency_failure=True,
    allow_failure=True,
    download_patterns=["*.csv"],
    task_type="Gate",
    operator_key="slurm",
)

CARRIED = StepLog(
    step="train",
    name="Train",
    status="COMPLETED",
    status_reason="well",
    step_type="map",
    message="done",
    mock=True,
    spec=SPEC,
    details={"k": 1},
    current_attempt_id="a1",
    attempts=[
        AttemptLog(
            attempt_id="a1",
            step="train",
            attempt_index=1,
            status="COMPLETED",
            operator_data={"queue": "long"},
            outputs=VALUES,
            created_at=NOON,
            ended_at=NOON,
        )
    ],
)

SAMPLES: tuple[Event, ...] = (
    RunCreated(branch=""),
    RunCreated(
        branch="",
        tag="nightly",
        status="RUNNING",
        dag_hash="abc",
        original_run_id="r0",
        use_cached=True,
        workspace_slug="team",
        root_path="/data",
        description="a run",
        tags={"k": [1, math.nan]},
        created_at=NOON,
    ),
    RunForked(branch="", source_run_id="r1", source_branch="map.[1, 2]", source_version=3, source_hash=HASH),
    RunForked(
        branch="", source_run_id="r1", source_branch="", source_version=1, source_hash=HASH, tag="t", status="RUNNING"
    ),
    RunStatusChanged(branch="", status="COMPLETED"),
    RunStatusChanged(branch="", status="FAILED", reason="out of memory"),
    RunConfigured(branch="", config={}),
    RunConfigured(branch="", config={"b": 1, "a": {"nested": [None, math.inf]}}),
    JobLogged(branch="", job={}),
    JobLogged(branch="", job={"name": "job", "attempts": [{"n": 1}]}),
    RunFinalized(branch="", heads=[]),
    RunFinalized(branch="", heads=[Head("", 7, HASH), Head("a", 2, HASH)], part=2, parts=3),
    RunPinned(branch=""),
    RunPinned(branch="", reason="the paper's figures"),
    RunUnpinned(branch=""),
    RunUnpinned(branch="", reason="published"),
    SourceCarriedOver(branch="", values={}),
    SourceCarriedOver(
        branch="",
        values=VALUES,
        part=2,
        parts=3,
        dag_hash="abc",
        use_cached=True,
        workspace_slug="lab",
        root_path="/data/r1",
        description="nightly",
        tags={"team": "é"},
        steps=[CarriedStep(place=0, log=CARRIED)],
        hidden=[CarriedStep(place=2, log=StepLog(step="a", name="a", status="SUCCESS"))],
    ),
    SourceCarriedOver(branch="", values={}, config={"file": "p.py", "n": {"é": 1}}, runs=["r1", "r0"], part=1, parts=2),
    PayloadErased(branch="a", stream_version=2, event_type="ParametersSet", reason="a person asked"),
    PayloadErased(
        branch="a", stream_version=3, event_type="StepLogged", reason="a key was in it", by="é", redacted=HASH
    ),
    BranchForked(branch="a", parent="", parent_version=3, parent_hash=HASH),
    BranchForked(branch="a.0.5", parent="a", parent_version=1, parent_hash=HASH, status="RUNNING"),
    BranchLogged(branch="a"),
    BranchLogged(branch="a", details={"é": ["日本", {"deep": [[[]]]}]}),
    BranchStatusChanged(branch="a", status="RUNNING"),
    BranchStatusChanged(branch="a", status="FAILED", reason="why"),
    ParametersSet(branch="a", values={"x": Parameter(1)}),
    ParametersSet(branch="a", values=VALUES),
    ParametersSet(branch="a", values=VALUES, copied_from=Source("", 7)),
    ParametersReduced(branch="", children=[], rules={}, values={}, sources={}),
    ParametersReduced(
        branch="",
        children=[Head("a", 2, HASH), Head("b", 3, HASH)],
        rules={"x": "min", "y": "function"},
        values={"x": Parameter(0.5, "metric"), "y": Parameter([1, 2])},
        sources={"x": [Source("a", 2)], "y": [Source("a", 2), Source("b", 3)]},
        on_conflict="parent",
        conflicts=[
            ParameterConflict("z", "a", None, Parameter(1), Parameter(2)),
            ParameterConflict("z", "b", Parameter(0), Parameter(1), Parameter(3, "metric")),
        ],
    ),
    StepLogged(branch="a", step="train", name="train"),
    StepLogged(
        branch="a",
        step="a.train",
        name="Train",
        status="SUCCESS",
        step_type="map",
        message="done",
        mock=True,
        spec=SPEC,
        details={"k": 1},
    ),
    StepLogged(branch="a", step="train", name="train", spec=TaskSpec()),
    StepLogged(branch="a", step="none", name="none", spec=TaskSpec(download_patterns=None)),
    StepLogged(branch="a", step="kinds", name="kinds", spec=TaskSpec(download_patterns={"include": ["*.csv"]})),
    StepStatusChanged(branch="a", step="train", status="RUNNING"),
    StepStatusChanged(branch="a", step="train", status="FAILED", reason="why"),
    StepRemoved(branch="a", step="train"),
    StepRemoved(branch="a", step="train", reason="renamed"),
    AttemptCreated(branch="a", step="train", attempt_id="a1", attempt_index=1),
    AttemptCreated(
        branch="a",
        step="train",
        attempt_id="a2",
        attempt_index=2,
        status="RUNNING",
        operator_key="slurm",
        operator_type="HPC",
        external_id="job-7",
        operator_data={"queue": "long"},
        relative_path="train/2",
        message="second try",
        inputs=VALUES,
        outputs={"y": Parameter(2)},
        metrics={"loss": Parameter(0.3, "metric")},
        details={"host": "n1"},
        created_at=NOON,
        current=False,
    ),
    AttemptCreated(
        branch="a",
        step="train",
        attempt_id="a3",
        attempt_index=3,
        status="RUNNING",
        step_status="RUNNING",
        ended_at=NOON,
    ),
    AttemptUpdated(branch="a", step="train", attempt_id="a1", changes=AttemptChanges()),
    AttemptUpdated(branch="a", step="train", attempt_id="a1", changes=AttemptChanges(status="RUNNING")),
    AttemptUpdated(branch="a", step="train", attempt_id="a1", changes=AttemptChanges(status="TIMED_OUT"), ends=True),
    AttemptUpdated(
        branch="a",
        step="train",
        attempt_id="a1",
        changes=AttemptChanges(status="COMPLETED"),
        step_status="COMPLETED",
    ),
    AttemptUpdated(
        branch="a",
        step="train",
        attempt_id="a1",
        changes=AttemptChanges(
            status="FAILED",
            status_reason=None,
            operator_key=None,
            operator_type="Local",
            external_id="job-8",
            operator_data=None,
            relative_path="p",
            message="",
            inputs={},
            outputs=VALUES,
            metrics={},
            details={"a": 1},
            submitted_at=NOON,
            ended_at=None,
        ),
    ),
    ExternalRunRegistered(branch="", task_id="t", operator_type="HPC", status="CREATED"),
    ExternalRunRegistered(
        branch="",
        task_id="t",
        operator_type="HPC",
        status="RUNNING",
        external_id="job-1",
        operator_data={"a": 1},
        relative_path="t",
    ),
    ExternalRunUpdated(branch="", task_id="t", status="COMPLETED"),
    ExternalRunUpdated(
        branch="", task_id="t", status="FAILED", external_id="job-1", operator_data={}, relative_path="t"
    ),
)


def as_golden(event: Event) -> dict[str, Any]:
    """Return what is stored of a sample, including its hash as the first event of a stream."""
    event_type, payload = type(event).__name__, encode_canonical(event)
    version = SCHEMA_VERSIONS[event_type]
    return {
        "type": event_type,
        "version": version,
        "payload": payload.hex(),
        "event": plainly(event),
        "hash": chained(event_type, version, event.branch, payload),
    }


def chained(event_type: str, version: int, branch: str, payload: bytes) -> str:
    """Return the hex hash of an event as the first of its stream, at a fixed time and id."""
    digest = payload_digest(payload)
    return link(GENESIS_HASH, "golden", branch, 1, event_type, version, EVENT_ID, RECORDED_AT, digest).hex()


def plainly(event: Event) -> Any:
    """Return every field of an event, including defaults, as JSON that tells all values apart."""
    fields = {name: getattr(event, name) for name in sorted(event.__struct_fields__)}
    return _plain(fields)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in sorted(value.items())}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in sorted(value.__struct_fields__)}
    write = _WRITTEN.get(type(value))
    return value if write is None else write(value)


_WRITTEN: dict[type, Callable[[Any], str]] = {
    bytes: lambda value: f"bytes {value.hex()}",
    float: lambda value: f"float {value.hex()}",
    datetime: lambda value: f"time {value.isoformat()}",
    msgspec.UnsetType: lambda _: "unset",
}


def golden_events() -> list[dict[str, Any]]:
    """Return the stored samples of every type and version."""
    found: list[dict[str, Any]] = (
        json.loads(GOLDEN_EVENTS.read_text(encoding="utf-8")) if GOLDEN_EVENTS.exists() else []
    )
    return found


def missing(samples: Iterable[Event] = SAMPLES) -> list[dict[str, Any]]:
    """Return the samples of today's versions that the file lacks."""
    known = {(golden["type"], golden["version"]) for golden in golden_events()}
    made = map(as_golden, samples)
    return [golden for golden in made if (golden["type"], golden["version"]) not in known]


if __name__ == "__main__":
    text = json.dumps(golden_events() + missing(), ensure_ascii=False, indent=1)
    GOLDEN_EVENTS.write_text(text + "\n", encoding="utf-8")
