"""The event log behind `engine.ports.EventLog`: SQLite's, and state stores of an older kind made into one."""
