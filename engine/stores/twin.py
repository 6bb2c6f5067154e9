"""Blocking twins: stores for synchronous callers, built from the methods of the async stores."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar

from typing_extensions import Unpack

from engine.blocking import BlockingEngine
from engine.composition import OpenOptions
from engine.errors import InvalidValue
from engine.handles.engine import Engine

Store = TypeVar("Store")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def checked_engine(engine: object, twin: str) -> Engine:
    """Return the engine for an async store. `twin` is the name of the class that takes a path instead.

    Raises:
        InvalidValue: it is not an `Engine`.
    """
    if not isinstance(engine, Engine):
        raise InvalidValue("engine", engine, f"is {type(engine).__name__}, not an open engine; {twin} takes a path")
    return engine


class BlockingTwin(ABC, Generic[Store]):
    """Blocking calls to an async store on an engine of its own. A context manager that closes it.

    Args:
        path: a SQLite file, or a URL.
        options: those of `open_engine`.
    """

    def __init__(self, path: str | Path, **options: Unpack[OpenOptions]) -> None:
        self._engine = BlockingEngine(path, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine once running calls have returned. Closing is optional: see `engine.blocking`."""
        self._engine.close()

    def call(self, work: Callable[[Store], Awaitable[Result]]) -> Result:
        """Run `work` with the async store on the engine's event loop, and return what it returns."""
        return self._engine.call(lambda engine: work(self._store(engine)))

    @abstractmethod
    def _store(self, engine: Engine) -> Store:
        """Return the async store on an engine."""
        ...


def blocking(
    method: Callable[Concatenate[Store, Parameters], Awaitable[Result]],
) -> Callable[Concatenate[BlockingTwin[Store], Parameters], Result]:
    """Return the blocking counterpart of an async store's method."""

    @functools.wraps(method)
    def call(self: BlockingTwin[Store], /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self.call(lambda store: method(store, *args, **kwargs))

    return call
