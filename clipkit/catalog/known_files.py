"""Recognising files that have not changed since they were embedded, without asking the catalog about each of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import where_at_or_below

_NOT_EMBEDDED = "NOT EXISTS (SELECT 1 FROM embeddings WHERE embeddings.hash = images.hash AND embeddings.space = ?)"
_KNOWN = "hash NOT IN (SELECT hash FROM temp.not_embedded) AND path NOT IN (SELECT path FROM failures)"


class KnownFiles:
    """The files at or below some folders that a space has embedded and that did not fail, as a scan last found them.

    A file is known by a 64-bit hash of its path, size and time of change, so a million of them take 17 MB, and a
    thousand are looked up at once. The odds that a changed file has the hash of one of a million others are one in ten
    trillion.
    """

    def __init__(self, catalog: Catalog, space: str, folders: Iterable[Path]) -> None:
        folders = list(folders)
        _find_not_embedded(catalog, space, folders)
        parts = [np.zeros(0, np.int64)]
        for folder in folders:
            where, parameters = where_at_or_below(folder)
            sql = f"SELECT id, path, size, mtime_ns FROM images WHERE {where} AND {_KNOWN}"
            rows = catalog.connection.execute(sql, parameters)
            pairs = ((row[0], hash(row[1:]) if type(row[1]) is str else _hash_of_bytes(*row[1:])) for row in rows)
            parts.append(np.fromiter(chain.from_iterable(pairs), np.int64))
        ids, keys = np.concatenate(parts).reshape(-1, 2).T
        self._keys, first = np.unique(keys, return_index=True)
        self._ids, self._seen = ids[first], np.zeros(len(first), bool)

    def recognise(self, files: Sequence[tuple[str, int, int]]) -> np.ndarray:
        """Return which files are known and unchanged, bool (n,), and remember them.

        files: path, size and time of change of each, as in the catalog.
        """
        if not len(self._keys):
            return np.zeros(len(files), bool)
        keys = np.fromiter(map(hash, files), np.int64, len(files))
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = self._keys[places] == keys
        self._seen[places[known]] = True
        return known

    def recognised(self) -> np.ndarray:
        """Return the rows of `images` of all files recognised so far, int64 (n,), ascending."""
        return np.sort(self._ids[self._seen])


def _find_not_embedded(catalog: Catalog, space: str, folders: list[Path]) -> None:
    """Make the temporary table `not_embedded`, with the contents of files below `folders` that the space lacks."""
    catalog.connection.execute("DROP TABLE IF EXISTS temp.not_embedded")
    catalog.connection.execute("CREATE TEMP TABLE not_embedded (hash)")
    insert = "INSERT INTO temp.not_embedded SELECT hash FROM images"
    with catalog.db.atomic():
        if {root for root, _ in catalog.roots()} <= set(folders):
            # In the order of the hashes, so that the lookups pass through the index of embeddings once.
            catalog.db.execute(f"{insert} INDEXED BY images_hash WHERE {_NOT_EMBEDDED}", [space])
            return
        for folder in folders:
            where, parameters = where_at_or_below(folder)
            catalog.db.execute(f"{insert} WHERE {where} AND {_NOT_EMBEDDED}", [*parameters, space])


def _hash_of_bytes(path: bytes, size: int, mtime_ns: int) -> int:
    return hash((os.fsdecode(path), size, mtime_ns))
