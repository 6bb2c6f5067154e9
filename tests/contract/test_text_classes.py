"""Subclasses of `str`, such as members of a `StrEnum`, given to the handles."""

import enum

from engine import Engine
from engine.model import Parameter


class Word(enum.StrEnum):
    RUN = "run"
    BRANCH = "branch"
    STEP = "step"
    DONE = "DONE"
    LOSS = "loss"


async def test_a_name_of_another_class_is_the_same_name(engine: Engine) -> None:
    """A name given as a `StrEnum` member is the same name as its plain text."""
    run = await engine.create_run(Word.RUN, status=Word.DONE, tag=Word.LOSS, parameters={Word.LOSS: Word.DONE})
    branch = await run.fork(Word.BRANCH)
    await branch.log_step(Word.STEP, status=Word.DONE, message=Word.LOSS)
    await branch.set_status("DONE")
    await branch.set_status(Word.DONE)
    assert await (await engine.run("run")).parameters() == {"loss": Parameter("DONE")}
    assert (await branch.step("step")).status == "DONE"
    assert [(each.run_id, each.branch) async for each in engine.events(run_id=Word.RUN, branch=Word.BRANCH)] == [
        ("run", "branch")
    ] * 3


async def test_a_handle_made_by_a_name_of_another_class_writes(engine: Engine) -> None:
    """A handle made with a `StrEnum` member has a plain `str` run id and can write."""
    created = await engine.create_run(Word.RUN)
    found = await engine.run(Word.RUN)
    forked = await engine.fork_run(Word.RUN, run_id=Word.BRANCH, branch=None, at=1)
    for run in (created, found, forked):
        assert type(run.run_id) is str
        assert (await run.set_parameters({"x": 1})).events
