"""The source of truth about a library: one SQLite file, written through sqlite-utils and readable with Datasette."""
