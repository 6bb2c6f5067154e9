"""The tables of the partitions, their rows, and the SQL view that resolves inheritance."""

from msgspec import Struct

PARTITION_TABLES = """
CREATE TABLE branches (
    stream_id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    branch TEXT NOT NULL,
    parent_stream_id INTEGER,
    parent_version INTEGER NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    details TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (run_id, branch)
) STRICT;
CREATE TABLE parameters (
    stream_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    stream_version INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    copied INTEGER NOT NULL,
    PRIMARY KEY (stream_id, name, stream_version)
) STRICT, WITHOUT ROWID;
CREATE TABLE step_logs (
    stream_id INTEGER NOT NULL,
    step TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    step_type TEXT NOT NULL,
    message TEXT NOT NULL,
    mock INTEGER NOT NULL,
    spec TEXT,
    details TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    current_attempt_id TEXT,
    PRIMARY KEY (stream_id, step)
) STRICT;
CREATE TABLE removed_steps (
    stream_id INTEGER NOT NULL,
    step TEXT NOT NULL,
    PRIMARY KEY (stream_id, step)
) STRICT, WITHOUT ROWID;
CREATE VIEW resolved_parameters AS
SELECT seen.run_id, seen.branch, parameters.name, parameters.kind, parameters.value,
    source.run_id AS source_run_id, source.branch AS source_branch, parameters.stream_version AS source_version
FROM branches AS seen,
    -- Correlated with the branch, so that asking for one branch does not resolve every branch of the file.
    json_each((
        WITH RECURSIVE lineage (stream_id, until_version, depth) AS (
            SELECT seen.stream_id, 9223372036854775807, 0
            UNION ALL
            SELECT branches.parent_stream_id, branches.parent_version, depth + 1
            FROM lineage JOIN branches ON branches.stream_id = lineage.stream_id
            WHERE branches.parent_stream_id < lineage.stream_id -- as every parent was opened before
        ),
        ranked AS (
            SELECT parameters.stream_id, name, stream_version,
                row_number() OVER (PARTITION BY name ORDER BY depth, stream_version DESC) AS place
            FROM lineage JOIN parameters
                ON parameters.stream_id = lineage.stream_id AND stream_version <= until_version
        )
        SELECT json_group_array(json_array(stream_id, name, stream_version)) FROM ranked WHERE place = 1
    )) AS found
JOIN parameters ON parameters.stream_id = json_extract(found.value, '$[0]')
    AND parameters.name = json_extract(found.value, '$[1]')
    AND parameters.stream_version = json_extract(found.value, '$[2]')
JOIN branches AS source ON source.stream_id = parameters.stream_id;
"""

PARAMETER_COLUMNS = ("stream_id", "name", "stream_version", "position", "kind", "value", "copied")
SQL_VIEWS = ("resolved_parameters",)
"""The SQL views over the tables."""


class BranchRow(Struct, gc=False):
    stream_id: int
    run_id: str
    branch: str
    parent_stream_id: int | None
    parent_version: int
    status: str
    status_reason: str | None
    details: str
    created_at: str


class StepRow(Struct, gc=False):
    stream_id: int
    step: str
    position: int
    name: str
    status: str
    status_reason: str | None
    step_type: str
    message: str
    mock: int
    spec: str | None
    details: str
    attempts: int
    current_attempt_id: str | None


class RemovedStepRow(Struct, gc=False):
    """A step that a branch has removed at least once, which also hides an inherited step of that name."""

    stream_id: int
    step: str
