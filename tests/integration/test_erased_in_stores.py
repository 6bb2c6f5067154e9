"""Erased values in the stores and the plug-in: hosts read them, and may write back what they have read."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runnable.datastore import BranchLog, JobLog, JsonParameter, RunLog, StepAttempt, StepLog

from engine import Engine, open_engine
from engine.errors import NotErasable
from engine.events import PayloadErased
from engine.model import ERASED
from engine.stores import BlockingRunLogStore
from engine.stores.runnable_plugin import AnabranchRunLogStore

SECRET = "correct-horse-battery"


def in_engine(database: Path, use: Callable[[Engine], Any]) -> Any:
    """Use an engine opened for it, and verify the log and the views afterwards."""

    async def used() -> Any:
        async with open_engine(database) as engine:
            found = await use(engine)
            assert (await engine.verify()).problems == []
            assert await engine.verify_views() == []
            return found

    return asyncio.run(used())


async def _erase_all(engine: Engine) -> None:
    for each in [each async for each in engine.events()]:
        with contextlib.suppress(NotErasable):
            await engine.erase(each.run_id, each.branch, each.stream_version, "all", compact=False)
    await engine.compact()


async def _since(engine: Engine) -> list[str]:
    """Return the types of the events recorded after the last erasure."""
    names = [type(each.event).__name__ async for each in engine.events()]
    last = len(names) - names[::-1].index(PayloadErased.__name__)
    return names[last:]


def _recorded(store: Any) -> None:
    store.create_run_log("r")
    store.set_parameters("r", {"x": JsonParameter(kind="json", value=SECRET)})
    store.set_run_config("r", {"c": SECRET})
    values = {"i": JsonParameter(kind="json", value=SECRET)}
    attempt = StepAttempt(status="SUCCESS", message=SECRET, input_parameters=values, output_parameters=values)
    step = StepLog(name="s", internal_name="s", status="SUCCESS", message=SECRET, attempts=[attempt])
    store.add_step_log(step, "r")
    store.add_job_log("r", JobLog(name="j", internal_name="j", status="SUCCESS", message=SECRET))


def _read_and_given_back(store: Any) -> None:
    """Read everything as a host does, and write it back unchanged."""
    store.set_parameters("r", store.get_parameters("r"))
    store.add_step_log(store.get_step_log("s", "r"), "r")
    store.put_run_log(store.get_run_log_by_id("r", full=True))
    store.set_run_config("r", store.get_run_config("r"))
    store.get_job_log("r")


def test_a_store_reads_erased_values_and_takes_them_back(database: Path) -> None:
    """A store reads an erased value as ERASED; writing it back, or copying it to a branch, sets no parameter."""
    with BlockingRunLogStore(database) as store:
        _recorded(store)
    in_engine(database, _erase_all)
    with BlockingRunLogStore(database) as store:
        assert store.get_parameters("r") == {"x": ERASED}
        _read_and_given_back(store)
        store.set_parameters("r", {"made up": ERASED})
        store.copy_parameters_to_branch("r", None, "a")
        assert store.get_parameters("r", "a") == store.get_parameters("r") == {"x": ERASED}
    assert "ParametersSet" not in in_engine(database, _since)


def test_the_plug_in_shows_its_host_nothing_where_a_value_was_erased(database: Path) -> None:
    """The plug-in returns None for an erased value, and the host can write back what it read and set a new value.

    None of the erased bytes is left in any file.
    """
    store = AnabranchRunLogStore(path=str(database))
    _recorded(store)
    in_engine(database, _erase_all)
    nothing = JsonParameter(kind="json", value=None)
    assert store.get_parameters("r") == {"x": nothing}
    assert store.get_step_log("s", "r").attempts[0].input_parameters == {"i": nothing}
    assert isinstance(store.get_run_log_by_id("r", full=True), RunLog)
    _read_and_given_back(store)
    store.set_parameters("r", {"x": JsonParameter(kind="json", value=1)})
    assert store.get_parameters("r") == {"x": JsonParameter(kind="json", value=1)}
    store.engine.close()
    assert in_engine(database, _since)[-1] == "ParametersSet"
    assert all(SECRET.encode() not in path.read_bytes() for path in database.parent.iterdir())


def test_an_erased_value_that_a_branch_inherits_is_not_its_own(database: Path) -> None:
    """A branch that writes back an erased value of its parent sets nothing; its merge leaves the parent's new value."""
    store = AnabranchRunLogStore(path=str(database), inherit=True)
    store.create_run_log("r")
    store.set_parameters("r", {"x": JsonParameter(kind="json", value=SECRET)})
    store.add_branch_log(BranchLog(internal_name="b"), "r")
    store.engine.close()
    in_engine(database, _erase_all)

    new = {"x": JsonParameter(kind="json", value=1)}
    store.set_parameters("r", new)
    branch = store.get_parameters("r", "b")
    assert branch == {"x": JsonParameter(kind="json", value=None)}
    store.set_parameters("r", branch, "b")
    merged = store.get_parameters("r")
    merged.update(branch)
    assert merged == new
    store.engine.close()
    assert in_engine(database, _since) == ["ParametersSet"]
