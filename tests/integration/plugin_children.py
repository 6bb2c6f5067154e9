"""Functions that the child processes of the plug-in tests run."""

from typing import Any

from runnable.datastore import JsonParameter, StepAttempt, StepLog

WRITES = 15


def work(store: Any, branch: str) -> None:
    """Repeat what the host does in a branch: log a step, read it back and set parameters; finally log the branch."""
    for index in range(WRITES):
        step = StepLog(name=f"s{index}", internal_name=f"{branch}.s{index}", attempts=[StepAttempt()])
        store.add_step_log(step, "r")
        assert store.get_step_log(step.internal_name, "r") == step
        store.set_parameters("r", {f"p{index}": JsonParameter(kind="json", value=index)}, branch)
        store.set_parameters("r", {f"{branch}-{index}": JsonParameter(kind="json", value=index)})
    log = store.get_branch_log(branch, "r")
    log.status = "SUCCESS"
    store.add_branch_log(log, "r")
