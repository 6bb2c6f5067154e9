"""The SQLite implementation of `engine.ports.EventLog`, and the migration of older state stores into it."""
