"""A run of the real host, exported: what its own store would have written, and what its own command draws."""

import asyncio
import json
from pathlib import Path

import pytest
from runnable.datastore import RunLog

from engine import open_engine
from engine.cli import main
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
    """Read by the host's own model, it is the log of the same pipeline on the host's own store."""
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
    """A failed run is exported, taken in elsewhere, and retried there by the host."""
    failed, elsewhere = our_host(tmp_path / "failed"), our_host(tmp_path / "elsewhere")
    run_flow([failed], "failing", fails=True)
    asyncio.run(_moved(*(host.folder / "runs.db" for host in (failed, elsewhere))))
    (elsewhere.folder / "repaired").touch()

    run_command([elsewhere], "retry", "failing", run_id="failing")
    assert json.loads(export(elsewhere, "failing").read_text())["status"] == "SUCCESS"
