"""The tables of the state views and their rows: first the state store's columns under their old names, then ours."""

from msgspec import Struct

# `tasks` and `external_runs` keep their rowids: without them, SQLite 3.40's integrity check reports their NULLs as
# damage, because their key columns do not come first.
STATE_TABLES = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    workspace_slug TEXT,
    root_path TEXT,
    created_at TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    tags TEXT,
    description TEXT,
    stream_id INTEGER NOT NULL UNIQUE,
    tag TEXT NOT NULL,
    dag_hash TEXT,
    original_run_id TEXT,
    use_cached INTEGER NOT NULL,
    config TEXT NOT NULL,
    job TEXT,
    finalized_hash TEXT,
    pinned INTEGER NOT NULL,
    source_stream_id INTEGER,
    status_changed_at TEXT
) STRICT;
CREATE INDEX runs_by_source ON runs (source_stream_id);
CREATE TABLE tasks (
    task_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    image TEXT,
    command TEXT,
    files TEXT,
    env TEXT,
    dependencies TEXT,
    cores INTEGER,
    memory_gb ANY,  -- a whole number stays one
    gpus INTEGER,
    time_limit_minutes INTEGER,
    allow_dependency_failure INTEGER NOT NULL,
    allow_failure INTEGER NOT NULL,
    download_patterns TEXT,
    status TEXT,
    task_type TEXT,
    operator_key TEXT,
    current_attempt_id TEXT,
    stream_id INTEGER NOT NULL,
    PRIMARY KEY (stream_id, task_id)
) STRICT;
CREATE INDEX tasks_by_id ON tasks (task_id);
CREATE TABLE task_attempts (
    attempt_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    attempt_index INTEGER NOT NULL,
    status TEXT NOT NULL,
    operator_key TEXT,
    operator_type TEXT,
    external_id TEXT,
    operator_data TEXT,
    relative_path TEXT,
    created_at TEXT NOT NULL,
    submitted_at TEXT,
    ended_at TEXT,
    status_reason TEXT,
    stream_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    message TEXT NOT NULL,
    inputs TEXT,
    outputs TEXT,
    metrics TEXT,
    details TEXT,
    ended_position INTEGER,
    PRIMARY KEY (stream_id, task_id, attempt_index),
    -- An id is unique in the file, but one that was removed may come again: a view of the past may have both.
    UNIQUE (attempt_id, stream_id)
) STRICT;
CREATE TABLE external_runs (
    task_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    operator_type TEXT NOT NULL,
    external_id TEXT,
    status TEXT NOT NULL,
    operator_data TEXT,
    relative_path TEXT,
    stream_id INTEGER NOT NULL,
    PRIMARY KEY (stream_id, task_id)
) STRICT;
CREATE TABLE schema_info (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class RunRow(Struct, gc=False):
    run_id: str
    workspace_slug: str | None
    root_path: str | None
    created_at: str
    status: str
    status_reason: str | None
    tags: str | None
    description: str | None
    stream_id: int
    tag: str
    dag_hash: str | None
    original_run_id: str | None
    use_cached: int
    config: str
    job: str | None
    finalized_hash: str | None
    pinned: int
    source_stream_id: int | None
    status_changed_at: str | None


class TaskRow(Struct, gc=False):
    task_id: str
    run_id: str
    image: str
    command: str
    files: str
    env: str
    dependencies: str
    cores: int | None
    memory_gb: int | float | None
    gpus: int | None
    time_limit_minutes: int | None
    allow_dependency_failure: int
    allow_failure: int
    download_patterns: str | None
    status: str
    task_type: str
    operator_key: str | None
    current_attempt_id: str | None
    stream_id: int


class AttemptRow(Struct, gc=False):
    attempt_id: str
    task_id: str
    run_id: str
    attempt_index: int
    status: str
    operator_key: str | None
    operator_type: str | None
    external_id: str | None
    operator_data: str | None
    relative_path: str | None
    created_at: str
    submitted_at: str | None
    ended_at: str | None
    status_reason: str | None
    stream_id: int
    position: int
    message: str
    inputs: str | None
    outputs: str | None
    metrics: str | None
    details: str | None
    ended_position: int | None
    """The position of the event that ended it; needed because `ended_at` may be the caller's."""


class ExternalRunRow(Struct, gc=False):
    task_id: str
    run_id: str
    operator_type: str
    external_id: str | None
    status: str
    operator_data: str | None
    relative_path: str | None
    stream_id: int
