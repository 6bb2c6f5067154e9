"""An exported run of the real host: it equals what the host's own store holds, and the host's commands take it."""

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest
from msgspec import structs
from runnable.datastore import JsonParameter, RunLog

from engine import open_engine
from engine.cli import main
from engine.model import AttemptDocument, Parameter
from engine.stores import PartitionedRunLogStore, StepAttempt, StepLog
from tests.exports import exported, imported
from tests.integration.runnable_host import (
    Host,
    normalised,
    our_host,
    run_command,
    run_flow,
    stock_host,
    stock_store,
)


def export(host: Host, run_id: str) -> Path:
    """Export a run's compiled log to where the host's `timeline` command looks for it."""
    log = host.folder / ".run_log_store" / f"{run_id}.json"
    arguments = ["--format", "json", "--db", str(host.folder / "runs.db")]
    assert main(["export", run_id, *arguments, "--to", str(log)]) == 0
    return log


@pytest.mark.parametrize(
    "flow", ["mapping", *(pytest.param(each, marks=pytest.mark.slow) for each in ("sequential", "parallel", "nested"))]
)
def test_a_compiled_log_is_what_the_hosts_store_holds(tmp_path: Path, flow: str) -> None:
    """An exported log equals the log of the same pipeline in the host's store, and the host draws its timeline."""
    hosts = stock_host(tmp_path / "stock"), our_host(tmp_path / "ours")
    run_flow(hosts, flow)
    document = json.loads(export(hosts[1], flow).read_text())

    assert normalised(RunLog(**document)) == normalised(stock_store(hosts[0]).get_run_log_by_id(flow, full=True))
    run_command([hosts[1]], "timeline", flow, "--no-open", run_id=flow)
    assert (hosts[1].folder / f"{flow}_timeline.html").stat().st_size > 0


async def _moved(source: Path, target: Path) -> None:
    async with open_engine(source) as engine, open_engine(target) as other:
        await imported(other, await exported(engine))


def test_a_run_goes_on_where_it_was_taken(tmp_path: Path) -> None:
    """The host retries a failed run in another store, into which it was imported."""
    failed, elsewhere = our_host(tmp_path / "failed"), our_host(tmp_path / "elsewhere")
    run_flow([failed], "failing", fails=True)
    asyncio.run(_moved(*(host.folder / "runs.db" for host in (failed, elsewhere))))
    (elsewhere.folder / "repaired").touch()

    run_command([elsewhere], "retry", "failing", run_id="failing")
    assert json.loads(export(elsewhere, "failing").read_text())["status"] == "SUCCESS"


async def _mixed(database: Path) -> None:
    """Record an attempt that the engine began and a host's document ended, and one the other way round."""
    async with open_engine(database) as engine:
        run = await engine.create_run("mixed")
        store = PartitionedRunLogStore(engine)
        await run.start_attempt("ours")
        step = await store.get_step_log("ours", "mixed")
        ended = structs.replace(step.attempts[0], status="SUCCESS", end_time="2999-01-02 03:04:05.000006")
        await store.add_step_log(structs.replace(step, status="SUCCESS", attempts=[ended]), "mixed")
        begun = StepAttempt(status="PROCESSING", start_time="2026-01-02 03:04:05.500000")
        await store.add_step_log(StepLog(internal_name="theirs", status="PROCESSING", attempts=[begun]), "mixed")
        (attempt,) = await run.attempts("theirs")
        await (await run.find_attempt(attempt.attempt_id)).finish()


def test_times_of_the_engine_and_of_the_host_go_together(tmp_path: Path) -> None:
    """Every exported time is in UTC and without a zone, as the host writes times, so that they can be subtracted."""
    host = our_host(tmp_path / "ours")
    asyncio.run(_mixed(host.folder / "runs.db"))
    steps = json.loads(export(host, "mixed").read_text())["steps"]
    times = {name: [step["attempts"][0][end] for end in ("start_time", "end_time")] for name, step in steps.items()}
    assert times["ours"][1] == "2999-01-02 03:04:05.000006"
    assert times["theirs"][0] == "2026-01-02 03:04:05.500000"
    assert all(datetime.fromisoformat(time).tzinfo is None for pair in times.values() for time in pair)


async def _ended_at_once(database: Path) -> None:
    async with open_engine(database) as engine:
        await engine.create_run("quick")
        moment = "2026-01-02 03:04:05.500000"
        attempt = StepAttempt(status="SUCCESS", start_time=moment, end_time=moment)
        store = PartitionedRunLogStore(engine)
        await store.add_step_log(StepLog(internal_name="s", status="SUCCESS", attempts=[attempt]), "quick")


def test_times_of_the_host_are_exported_as_they_are(tmp_path: Path) -> None:
    """An attempt that the host's clock ended in the moment that it began keeps both of its times."""
    host = our_host(tmp_path / "ours")
    asyncio.run(_ended_at_once(host.folder / "runs.db"))
    (attempt,) = json.loads(export(host, "quick").read_text())["steps"]["s"]["attempts"]
    assert (attempt["start_time"], attempt["end_time"]) == ("2026-01-02 03:04:05.500000",) * 2


async def _with_an_erased_value(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("erased")
        recorded = await run.set_parameters({"x": "secret"})
        await run.log_step("s", attempts=[AttemptDocument(status="SUCCESS", inputs={"i": Parameter("secret")})])
        await engine.erase("erased", None, recorded.stream_version, "on request", compact=False)
        attempt = (await run.head()).stream_version - 1
        await engine.erase("erased", None, attempt, "on request", compact=False)


def test_the_host_reads_an_exported_run_with_an_erased_value(tmp_path: Path) -> None:
    """An erased value is exported as None of the kind `json`: the host knows no erased values."""
    host = our_host(tmp_path / "ours")
    asyncio.run(_with_an_erased_value(host.folder / "runs.db"))
    log = RunLog(**json.loads(export(host, "erased").read_text()))
    nothing = JsonParameter(kind="json", value=None)
    assert log.parameters == {"x": nothing}
    assert log.steps["s"].attempts[0].input_parameters == {"i": nothing}
