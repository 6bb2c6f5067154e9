"""What the tests of bad input share: a refused call records nothing and leaves the engine usable."""

from collections.abc import Awaitable
from typing import Any

import pytest

from engine import Engine
from engine.errors import AnabranchError


async def refused(engine: Engine, call: Awaitable[Any]) -> AnabranchError:
    """Return the error that the call raises, after checking that it recorded nothing and that a write succeeds."""
    before = await engine.last_position()
    with pytest.raises(AnabranchError) as caught:
        await call
    assert await engine.last_position() == before
    await (await engine.run("r")).set_parameters({"usable": True})
    assert await engine.last_position() == before + 1
    return caught.value


async def events(engine: Engine, **wanted: Any) -> list[Any]:
    return [recorded async for recorded in engine.events(**wanted)]


async def subscribed(engine: Engine, **wanted: Any) -> None:
    async for _ in engine.subscribe(**wanted):
        pass
