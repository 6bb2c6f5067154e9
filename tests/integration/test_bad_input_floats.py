"""NaN, the infinities and other extreme values are kept exactly, through reductions, rebuilds and reopening."""

import math
from pathlib import Path
from typing import Any

import pytest

from engine import Run, open_engine
from engine.codec import same
from engine.events import ParametersSet
from engine.model import AttemptDocument, Parameter, TaskSpec

VALUES: dict[str, Any] = {
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "minus zero": -0.0,
    "smallest": 5e-324,
    "greatest": 1.7976931348623157e308,
    "shortest of seventeen digits": 0.1 + 0.2,
    "integer": 1,
    "float": 1.0,
    "true": True,
    "greatest integer": 2**63 - 1,
    "least integer": -(2**63),
    "in a list": [math.nan, [math.inf], None, "null"],
    "in a mapping": {"null": math.nan, "b": {"a": -math.inf}},
    "text": "NaN null \u2028 \x00 \U0001f600",
}


async def _reads(run: Run, value: Any) -> None:
    attempt = (await run.step("task")).attempts[0]
    log = await run.compile()
    for found in (
        (await run.parameters())["p"].value,
        (await run.parameters(at=1 + 1))["p"].value,
        attempt.metrics["p"].value,
        attempt.details["p"],
        (await run.step("task")).details["p"],
        log.parameters["p"].value,
        log.config["p"],
    ):
        assert same(found, value), found


@pytest.mark.parametrize("case", VALUES)
async def test_a_value_comes_back_exactly(database: Path, case: str) -> None:
    """A value keeps its type, sign and NaN wherever it is read back, also after a rebuild and a reopening."""
    value = VALUES[case]
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"p": value})
        await run.configure({"p": value})
        attempt = AttemptDocument(metrics={"p": Parameter(value, "metric")}, details={"p": value})
        await run.log_step("task", details={"p": value}, attempts=[attempt], spec=TaskSpec(files={"p": value}))
        await _reads(run, value)
        assert await engine.verify_views() == []
        await engine.rebuild()
        await _reads(run, value)
    async with open_engine(database) as engine:
        await _reads(await engine.run("r"), value)
        [event] = [recorded.event async for recorded in engine.events(types=[ParametersSet])]
        assert isinstance(event, ParametersSet)
        assert same(event.values["p"].value, value)


@pytest.mark.parametrize("case", VALUES)
async def test_a_value_that_is_written_again_is_no_news(database: Path, case: str) -> None:
    """Writing a step or a configuration with an equal value, NaN included, records nothing the second time."""
    value = VALUES[case]
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        await run.log_step("s", details={"p": value})
        await run.configure({"p": value})
        assert not (await run.log_step("s", details={"p": value})).events
        assert not (await run.configure({"p": value})).events


@pytest.mark.parametrize("case", VALUES)
async def test_a_value_is_reduced_exactly(database: Path, case: str) -> None:
    """A reduction carries a child's value to the parent exactly as it was set."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        child = await run.fork("b")
        await child.set_parameters({"p": VALUES[case]})
        reduction = await run.reduce(rules={"p": "unanimous"})
        assert same(reduction.values["p"].value, VALUES[case])
        assert same((await run.parameters())["p"].value, VALUES[case])
