"""The state store for synchronous callers."""

from pathlib import Path

from typing_extensions import Unpack, override

from engine.composition import OpenOptions
from engine.handles.engine import Engine
from engine.stores.run_lock import RunLock
from engine.stores.state import StateStore
from engine.stores.task_documents import Factories, checked_factories
from engine.stores.twin import BlockingTwin, blocking


class SQLiteStateStore(BlockingTwin[StateStore]):
    """`StateStore` on a file, with blocking calls from any thread; picklable, and safe to fork.

    Args:
        db_path: a SQLite file, or a URL; created if missing, with its folder. A relative path is resolved against the
            current folder now. A state store of an older schema is migrated.
        factories: what makes the objects that it returns.
        options: those of `open_engine`.

    Attributes:
        db_path: absolute.

    Raises:
        CannotOpen, StoreUnavailable
        InvalidValue: `factories` is not a `Factories`.
    """

    def __init__(self, db_path: str | Path, factories: Factories | None = None, **options: Unpack[OpenOptions]) -> None:
        super().__init__(db_path, **options)
        self._factories = checked_factories(factories)
        self.db_path = self._engine.call(_path)

    @override
    def _store(self, engine: Engine) -> StateStore:
        return StateStore(engine, self._factories)

    def lock(self) -> RunLock:
        """Return the lock of the database's folder, for `with`. Entering it does not wait.

        Raises (when it is entered):
            RunLocked
        """
        return RunLock(self.db_path.parent)

    create_run = blocking(StateStore.create_run)
    get_run = blocking(StateStore.get_run)
    get_run_metadata = blocking(StateStore.get_run_metadata)
    get_run_status = blocking(StateStore.get_run_status)
    get_run_status_reason = blocking(StateStore.get_run_status_reason)
    set_run_status = blocking(StateStore.set_run_status)
    add_workflow = blocking(StateStore.add_workflow)
    get_tasks = blocking(StateStore.get_tasks)
    get_task_status = blocking(StateStore.get_task_status)
    update_task_status = blocking(StateStore.update_task_status)
    delete_task = blocking(StateStore.delete_task)
    register_external_run = blocking(StateStore.register_external_run)
    update_external_run = blocking(StateStore.update_external_run)
    get_external_run = blocking(StateStore.get_external_run)
    get_active_external_runs = blocking(StateStore.get_active_external_runs)
    cancel_external_runs = blocking(StateStore.cancel_external_runs)
    create_attempt = blocking(StateStore.create_attempt)
    list_attempts = blocking(StateStore.list_attempts)
    get_attempt_count = blocking(StateStore.get_attempt_count)
    get_attempt = blocking(StateStore.get_attempt)
    get_current_attempt = blocking(StateStore.get_current_attempt)
    get_active_attempts = blocking(StateStore.get_active_attempts)
    get_attempt_task_ids = blocking(StateStore.get_attempt_task_ids)
    count_active_attempts_by_operator = blocking(StateStore.count_active_attempts_by_operator)
    find_orphaned_attempts = blocking(StateStore.find_orphaned_attempts)
    update_attempt = blocking(StateStore.update_attempt)
    mark_attempts_failed_init = blocking(StateStore.mark_attempts_failed_init)


async def _path(engine: Engine) -> Path:
    return engine.path
