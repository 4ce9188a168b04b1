"""Embeddings as the image tower gave them: the catalog's unit vectors with their norms again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipkit.catalog.catalog import LIVE, Catalog

PARAMETERS = 500


def stored_embedding(catalog: Catalog, content_hash: str, space: str) -> np.ndarray | None:
    """The embedding of a picture's content in a space, float32 (d,), not normalised; None if there is none."""
    found = stored_embeddings(catalog, [content_hash], space).get(content_hash)
    return found


def stored_embeddings(catalog: Catalog, hashes: Sequence[str], space: str) -> dict[str, np.ndarray]:
    """Content hash -> embedding in a space, float32 (d,), not normalised, for those that the catalog has."""
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(hashes), PARAMETERS):
        part = hashes[start : start + PARAMETERS]
        rows = catalog.db.execute(
            f"SELECT hash, vector, norm FROM embeddings WHERE space = ? AND hash IN ({','.join('?' * len(part))})",
            [space, *part],
        )
        for content, vector, norm in rows:
            found[content] = np.frombuffer(vector, "<f2").astype(np.float32) * np.float32(norm)
    return found


def sample_of(catalog: Catalog, space: str, count: int, seed: int = 0) -> list[tuple[str, int]]:
    """At most `count` contents that searches of a space may find, with the id of an embedding of theirs, at random but
    always the same ones."""
    sql = f"SELECT hash, id FROM embeddings WHERE space = ? AND {LIVE} ORDER BY id"
    rows = [(row[0], row[1]) for row in catalog.db.execute(sql, [space])]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [rows[i] for i in sorted(chosen)]
