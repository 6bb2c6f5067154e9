"""Real pipelines of the real host record the same with our store as with the host's own."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.runnable_host import (
    Host,
    normalised,
    our_host,
    our_store,
    run_command,
    run_flow,
    stock_host,
    stock_store,
)


def slow(*flows: str) -> list[Any]:
    """Mark pipelines as slow, since they start too many interpreters for every test run."""
    return [pytest.param(flow, marks=pytest.mark.slow) for flow in flows]


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Host, Host]:
    """A host with the stock store, and a host with ours."""
    return stock_host(tmp_path / "stock"), our_host(tmp_path / "ours")


def equal_logs(hosts: tuple[Host, Host], run_id: str) -> Any:
    """Check that both stores return the same log of a run, in full and not; return the full log."""
    stock, ours = stock_store(hosts[0]), hosts[1]
    with our_store(ours) as store:
        root, full = store.get_run_log_by_id(run_id), store.get_run_log_by_id(run_id, full=True)
    assert normalised(root) == normalised(stock.get_run_log_by_id(run_id))
    assert normalised(full) == normalised(stock.get_run_log_by_id(run_id, full=True))
    assert list(full.steps) == list(stock.get_run_log_by_id(run_id).steps)
    return full


@pytest.mark.parametrize(
    "flow", ["nested", *slow("sequential", "parallel", "mapping", "conditional", "looping", "asynchronous", "job")]
)
def test_a_pipeline_is_recorded_as_by_the_stock_store(hosts: tuple[Host, Host], flow: str) -> None:
    """Every kind of pipeline leaves the same steps, attempts, branches and parameters in both stores."""
    run_flow(hosts, flow)
    assert equal_logs(hosts, flow).status == "SUCCESS"


@pytest.mark.slow  # the quick test of a retry uses the same command line
def test_the_command_line_executes_on_it(hosts: tuple[Host, Host]) -> None:
    """The host's command executes a YAML pipeline on our store."""
    run_command(hosts, "execute", "steps.yaml", "--tag", "nightly", run_id="written")
    log = equal_logs(hosts, "written")
    assert (log.status, log.tag) == ("SUCCESS", "nightly")


@pytest.mark.parametrize("flow", ["failing", *slow("failing_branch")])
def test_a_failed_run_is_retried(hosts: tuple[Host, Host], flow: str) -> None:
    """The host's `retry` resumes a failed run at the failed step, in the same log."""
    run_flow(hosts, flow, fails=True)
    assert equal_logs(hosts, flow).status == "FAIL"
    for host in hosts:
        (host.folder / "repaired").touch()
    run_command(hosts, "retry", flow, run_id=flow)
    log = equal_logs(hosts, flow)
    steps = log.steps if flow == "failing" else log.steps["both"].branches["both.broken"].steps
    attempts = {step.name: [attempt.status for attempt in step.attempts] for step in steps.values()}
    assert (log.status, attempts["count"], attempts["flaky"]) == ("SUCCESS", ["SUCCESS"], ["FAIL", "SUCCESS"])


def test_branches_named_after_values_with_dots_are_in_the_log(tmp_path: Path) -> None:
    """`each.0.5` and `each.1.5` are branches of the step `each`, beside `each.1`; the stock store omits them."""
    host = our_host(tmp_path / "ours")
    run_flow([host], "dotted")
    with our_store(host) as store:
        log = store.get_run_log_by_id("dotted", full=True)
    assert set(log.steps["each"].branches) == {"each.1", "each.0.5", "each.1.5"}
    assert log.parameters["squared"].value == [1, 0.25, 2.25]


def test_a_stale_inherited_value_does_not_overwrite_a_fresh_one(tmp_path: Path) -> None:
    """With `inherit`, a branch sees its parent's parameters, and only what it set itself is merged back."""
    host = our_host(tmp_path / "ours", inherit=True)
    run_flow([host], "inheriting")
    with our_store(host, inherit=True) as store:
        final = {name: each.value for name, each in store.get_parameters("inheriting").items()}
        stale = {name: each.value for name, each in store.get_parameters("inheriting", "both.stale").items()}
    assert final == {"level": 22, "seen": 2100}
    assert stale == {"level": 21, "seen": 2100}


@pytest.mark.parametrize("flow", slow("parallel", "mapping", "nested", "conditional", "looping"))
def test_with_inheritance_pipelines_end_with_the_same_parameters(tmp_path: Path, flow: str) -> None:
    """With `inherit`, pipelines end with the same parameters as on the stock store."""
    stock, ours = hosts = stock_host(tmp_path / "stock"), our_host(tmp_path / "ours", inherit=True)
    run_flow(hosts, flow)
    with our_store(ours, inherit=True) as store:
        assert store.get_parameters(flow) == stock_store(stock).get_parameters(flow)
