"""Pipelines for the real host: `python flows.py NAME` runs one, and the host imports its functions again by name."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Catalog,
    Conditional,
    Loop,
    Map,
    Parallel,
    Pipeline,
    PythonJob,
    PythonTask,
    json,
    metric,
    pickled,
)


def load() -> tuple[int, float, dict[str, Any], set[int]]:
    Path("data.txt").write_text("a b c")
    return 3, 0.25, {"deep": [1, None, 2.5]}, {1, 2}


def use(count: int, settings: dict[str, Any], seen: set[int]) -> int:
    assert Path("data.txt").exists()
    return count + len(settings["deep"]) + len(seen)


def three() -> list[int]:
    return [1, 2, 3]


def one_and_a_half() -> list[float]:
    return [1, 0.5, 1.5]


def square(chunk: float) -> float:
    return chunk * chunk


def left() -> tuple[str, list[int]]:
    return "left", [1]


def right() -> tuple[str, list[int]]:
    return "right", [2]


def join(winner: str, left_only: list[int], right_only: list[int]) -> str:
    return f"{winner} {left_only} {right_only}"


def toss() -> str:
    return "heads"


def heads() -> str:
    return "up"


def first() -> tuple[int, int]:
    return 1, 10


def bump(counter: int) -> tuple[int, bool]:
    return counter + 1, counter + 1 >= 3


def flaky() -> int:
    if not Path("repaired").exists():
        raise ValueError("not repaired")
    return 42


def count() -> int:
    return 21


def refresh(level: int) -> int:
    return level + 1


def look(level: int) -> int:
    return level * 100


async def fetch() -> int:
    await asyncio.sleep(0)
    return 7


async def double(fetched: int) -> int:
    await asyncio.sleep(0)
    return fetched * 2


def task(function: Callable[..., Any], *returns: Any, **options: Any) -> Any:
    return PythonTask(name=function.__name__, function=function, returns=list(returns), **options)


def sequential() -> Pipeline:
    loaded = [json("count"), metric("loss"), json("settings"), pickled("seen")]
    pipeline = Pipeline(
        steps=[
            task(load, *loaded, catalog=Catalog(put=["data.txt"])),
            task(use, json("total"), catalog=Catalog(get=["data.txt"])),
        ]
    )
    pipeline.execute()
    return pipeline


def parallel() -> Pipeline:
    branches = {
        "a": task(left, json("winner"), json("left_only")).as_pipeline(),
        "b": task(right, json("winner"), json("right_only")).as_pipeline(),
    }
    pipeline = Pipeline(steps=[Parallel(name="both", branches=branches), task(join, json("joined"))])
    pipeline.execute()
    return pipeline


def mapping() -> Pipeline:
    branch = task(square, json("squared")).as_pipeline()
    each = Map(name="each", branch=branch, iterate_on="chunks", iterate_as="chunk", reducer="lambda *x: max(x)")
    pipeline = Pipeline(steps=[task(three, json("chunks")), each])
    pipeline.execute()
    return pipeline


def dotted() -> Pipeline:
    # The value 0.5 names a branch whose own name contains a dot.
    branch = task(square, json("squared")).as_pipeline()
    each = Map(name="each", branch=branch, iterate_on="chunks", iterate_as="chunk")
    pipeline = Pipeline(steps=[task(one_and_a_half, json("chunks")), each])
    pipeline.execute()
    return pipeline


def nested() -> Pipeline:
    branches = {"heads": task(heads, json("facing")).as_pipeline()}
    inner = Conditional(name="inner", parameter="coin", branches=branches)
    both = {"a": Pipeline(steps=[inner]), "b": task(left, json("winner"), json("left_only")).as_pipeline()}
    pipeline = Pipeline(steps=[task(toss, json("coin")), Parallel(name="both", branches=both)])
    pipeline.execute()
    return pipeline


def conditional() -> Pipeline:
    branches = {"heads": task(heads, json("facing")).as_pipeline(), "tails": task(left, json("winner")).as_pipeline()}
    pipeline = Pipeline(
        steps=[task(toss, json("coin")), Conditional(name="choose", parameter="coin", branches=branches)]
    )
    pipeline.execute()
    return pipeline


def looping() -> Pipeline:
    branch = task(bump, json("counter"), json("enough")).as_pipeline()
    again = Loop(name="again", branch=branch, max_iterations=5, break_on="enough", index_as="index")
    pipeline = Pipeline(steps=[task(first, json("counter"), json("untouched")), again])
    pipeline.execute()
    return pipeline


def failing() -> Pipeline:
    pipeline = Pipeline(steps=[task(count, json("count")), task(flaky, json("doubled")), task(heads, json("facing"))])
    pipeline.execute()
    return pipeline


def failing_branch() -> Pipeline:
    branches = {
        "fine": task(left, json("winner"), json("left_only")).as_pipeline(),
        "broken": Pipeline(steps=[task(count, json("count")), task(flaky, json("doubled"))]),
    }
    pipeline = Pipeline(steps=[Parallel(name="both", branches=branches), task(heads, json("facing"))])
    pipeline.execute()
    return pipeline


def inheriting() -> Pipeline:
    # One branch reads what the other updates: writing its stale copy back would undo the update.
    branches = {
        "fresh": task(refresh, json("level")).as_pipeline(),
        "stale": task(look, json("seen")).as_pipeline(),
    }
    pipeline = Pipeline(steps=[task(count, json("level")), Parallel(name="both", branches=branches)])
    pipeline.execute()
    return pipeline


def job() -> PythonJob:
    made = PythonJob(function=count, returns=[json("count")])
    made.execute()
    return made


def asynchronous() -> None:
    steps = [
        AsyncPythonTask(name="fetch", function=fetch, returns=[json("fetched")]),
        AsyncPythonTask(name="double", function=double, returns=[json("doubled")]),
    ]

    async def run() -> None:
        async for _ in AsyncPipeline(steps=steps).execute_streaming():
            pass

    asyncio.run(run())


if __name__ == "__main__":
    globals()[sys.argv[1]]()
