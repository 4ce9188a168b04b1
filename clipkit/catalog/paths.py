"""Store paths in SQLite: as text if they are valid UTF-8, else as raw bytes."""

from __future__ import annotations

import os
from pathlib import Path

StoredPath = str | bytes


def to_stored(path: str | os.PathLike[str]) -> StoredPath:
    """Return the value for a `path` column: TEXT if the name is valid UTF-8, else a BLOB of its bytes."""
    text = os.fspath(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def from_stored(value: StoredPath) -> Path:
    """Return the path, with undecodable bytes as surrogates."""
    return Path(os.fsdecode(value) if isinstance(value, bytes) else value)


def where_at_or_below(folder: Path, column: str = "path") -> tuple[str, list[StoredPath]]:
    """Return an SQL condition, and its parameters, that `column` is the folder or a path below it.

    It is a range query on the path index, for text and for bytes, since SQLite sorts every BLOB after every TEXT. The
    upper bound is the folder followed by the character after the separator.
    """
    text = os.fspath(folder)
    prefix = text if text.endswith(os.sep) else text + os.sep
    raw = os.fsencode(prefix)
    after_raw = raw[:-1] + bytes([raw[-1] + 1])
    sql = [f"{column} = ?", f"({column} >= ? AND {column} < ?)"]
    parameters: list[StoredPath] = [to_stored(text), raw, after_raw]
    if isinstance(to_stored(prefix), str):
        sql.append(f"({column} >= ? AND {column} < ?)")
        parameters += [prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)]
    return "(" + " OR ".join(sql) + ")", parameters
