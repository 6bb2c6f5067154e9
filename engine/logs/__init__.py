"""Event logs: one file per kind of log, each behind `engine.ports.EventLog`."""
