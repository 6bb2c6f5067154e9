"""Make the golden database of one schema version: `python -m tests.golden.make_database FILE`.

It is made once by the code of that version; later versions must open it and read the same.
"""

import asyncio
import contextlib
import json
import math
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from engine import Engine, Run, open_engine
from engine.commands import LogExternalRun
from engine.events import ExternalRunRegistered, ExternalRunUpdated
from engine.model import AttemptDocument, Parameter, TaskSpec

RUNS = ("nightly", "forked", "empty")


async def create(engine: Engine) -> Run:
    """Create the first run, under an idempotency key."""
    return await engine.create_run(
        "nightly",
        parameters={"lr": 0.1, "nan": math.nan, "data": Parameter("s3://bucket/key", "object")},
        tag="golden",
        tags={"team": "é"},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        idempotency_key="create",
    )


async def fill(engine: Engine) -> None:
    """Record at least one event of most kinds."""
    run = await create(engine)
    await run.configure({"executor": "local"})
    await run.log_job({"name": "job"})
    fit = await run.fork("fit", status="RUNNING")
    for value in (0.5, [1, 2]):
        branch = await fit.fork(str(value))
        await branch.set_parameters({"loss": Parameter(len(branch.name), "metric"), "lr": 0.2})
        async with branch.attempt("train", operator_key="local", inputs={"lr": 0.2}) as attempt:
            await attempt.update(external_id="job-7", operator_data={"queue": None})
    await fit.set_parameters({"lr": 0.3})
    await fit.reduce(rules={"loss": "min"}, default="last")
    await run.reduce([fit], on_conflict="parent")
    await run.log_step("prepare", spec=TaskSpec(image="ubuntu", cores=2), attempts=[AttemptDocument(status="SUCCESS")])
    await run.log_step("gone")
    await run.remove_step("gone", "renamed")
    await run.write(
        LogExternalRun(
            event=ExternalRunRegistered(
                branch="", task_id="prepare", operator_type="HPC", status="RUNNING", external_id="x"
            )
        )
    )
    await run.write(LogExternalRun(event=ExternalRunUpdated(branch="", task_id="prepare", status="COMPLETED")))
    await run.finalize("COMPLETED")
    await engine.fork_run("nightly", run_id="forked", branch="fit", at=2)
    await engine.create_run("empty")


async def compiled(engine: Engine) -> dict[str, object]:
    """Return every run's compiled log as plain values, in which NaN stays NaN."""
    return {name: msgspec.to_builtins(await (await engine.run(name)).compile()) for name in RUNS}


async def make(path: Path) -> None:
    """Make the database and, beside it, a JSON file of the compiled runs."""
    async with open_engine(path) as engine:
        await fill(engine)
        text = as_json(await compiled(engine))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    path.with_name(path.name + "-lock").unlink()


def as_json(value: object) -> str:
    """Return the JSON text that is stored."""
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
