"""A run's compiled log in the JSON shape that the runnable host's own `file-system` store writes, without the host.

The host's `timeline` command reads it. Times of attempts that the host did not record are written as it writes them, in
UTC and without a zone: it cannot sort times with a zone among steps without times.
"""

import json
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, structs

from engine.engine import Engine
from engine.stores.documents import BranchLog, RunLog, StepAttempt, StepLog
from engine.stores.partitioned import PartitionedRunLogStore


async def host_json(engine: Engine, run_id: str) -> str:
    """Return a run's log as JSON text; NaN and the infinities as Python's `json` writes them, which the host uses.

    Branches stand in the steps that opened them; those that no step opened under `branches`, which the host ignores.

    Raises:
        RunNotFound
    """
    log = await PartitionedRunLogStore(engine).get_run_log_by_id(run_id, True)  # noqa: FBT003 - the hosts' own signature
    return json.dumps(_plain(log), ensure_ascii=True, indent=4) + "\n"


def _plain(value: Any) -> Any:
    match value:
        case RunLog() | BranchLog():
            return _log(value)
        case StepAttempt():
            times = {name: _zoneless(getattr(value, name)) for name in ("start_time", "end_time")}
            return _fields(structs.replace(value, **times))
        case Struct():
            return _fields(value)
        case dict():
            return {name: _plain(member) for name, member in value.items()}
        case list():
            return [_plain(member) for member in value]
        case _:
            return value


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: _plain(getattr(struct, name)) for name in struct.__struct_fields__}


def _log(log: RunLog | BranchLog) -> dict[str, Any]:
    steps: list[StepLog] = list(log.steps.values())
    opened = {name for step in steps for name in step.branches}
    left = {name: branch for name, branch in log.branches.items() if name not in opened}
    fields = _fields(structs.replace(log, branches=left))
    if not left:
        del fields["branches"]
    return fields


def _zoneless(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if moment.tzinfo is None else str(moment.astimezone(UTC).replace(tzinfo=None))
