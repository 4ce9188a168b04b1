"""Making a catalog, opening it, and saying in one line why it cannot be opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from filelock import FileLock
from sqlite_utils import Database

from clipkit.catalog.migrations import migrations
from clipkit.errors import ClipkitError, LibraryBusy, LibraryDamaged

PATIENCE = 30.0
"""Seconds to wait for another process that makes or upgrades the schema, or that commits."""

_OUTSIDE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)


def make(path: Path) -> None:
    """Makes an empty catalog beside its place and moves it there whole, so that a kill leaves none or a sound one."""
    with FileLock(path.with_suffix(".migrating"), timeout=PATIENCE):
        if path.exists():
            return
        unfinished = path.with_name(f"{path.name}.new")
        for name in (unfinished.name, f"{unfinished.name}-wal", f"{unfinished.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        for name in (f"{path.name}-wal", f"{path.name}-shm"):  # SQLite would replay a log that outlived its file
            path.with_name(name).unlink(missing_ok=True)
        connection = sqlite3.connect(unfinished)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            migrations.apply(Database(connection))
        finally:
            connection.close()
        os.replace(unfinished, path)


def connect(path: Path) -> Database:
    """Opens a catalog that is there and applies what migrations it lacks. Raises LibraryDamaged, sqlite3 errors."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20:  # SQLite would take it for a new database
        raise LibraryDamaged(f"{path} is damaged (it is empty): {_advice(path)}")
    connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
    try:
        if header[18] != 2:  # not in WAL mode: a restored copy; two processes may not switch it at once
            with FileLock(path.with_suffix(".migrating"), timeout=PATIENCE):
                connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        db = Database(connection)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if migrations.migrations_table not in tables:
            raise LibraryDamaged(f"{path} is no catalog of clipkit's: {_advice(path)}")
        applied = {migration.name for migration in migrations.applied(db)}
        own = {migration.name for migration in migrations._migrations}
        if applied - own:
            raise LibraryDamaged(f"{path} was written by a newer clipkit ({max(applied - own)}): upgrade clipkit")
        if own - applied:
            with FileLock(path.with_suffix(".migrating"), timeout=PATIENCE):
                migrations.apply(db)
    except BaseException:
        connection.close()
        raise
    return db


def as_clipkit_error(path: Path, error: sqlite3.DatabaseError) -> ClipkitError:
    """What SQLite says, as an error that says what to do."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LibraryBusy(f"another process has locked {path}; wait for it, or stop it, and try again")
    if code == sqlite3.SQLITE_FULL:
        return ClipkitError(f"the disk of {path} is full: make room and try again; nothing is lost")
    if code in _OUTSIDE:
        return ClipkitError(f"{path} cannot be opened ({error}): is it a file that you may read and write?")
    return LibraryDamaged(f"{path} is damaged ({error}): {_advice(path)}")


def _advice(path: Path) -> str:
    log = path.with_name(f"{path.name}-wal")
    also = f" and delete {log.name}" if log.exists() else ""  # else SQLite would replay it over the backup
    return f"put a backup in its place{also}, or delete {path.parent} and index again"
