"""Load embeddings as the image tower returned them: the catalog's unit vectors times their norms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipkit.catalog.catalog import IS_SEARCHABLE, MAX_PARAMETERS, Catalog


def load_embedding(catalog: Catalog, content_hash: str, space: str) -> np.ndarray | None:
    """Return the embedding of a picture's content in a space, float32 (d,), not normalised; None if there is none."""
    return load_embeddings(catalog, [content_hash], space).get(content_hash)


def load_embeddings(catalog: Catalog, hashes: Sequence[str], space: str) -> dict[str, np.ndarray]:
    """Map those content hashes that have one to their embedding in a space, float32 (d,), not normalised."""
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(hashes), MAX_PARAMETERS):
        part = hashes[start : start + MAX_PARAMETERS]
        rows = catalog.db.execute(
            f"SELECT hash, vector, norm FROM embeddings WHERE space = ? AND hash IN ({','.join('?' * len(part))})",
            [space, *part],
        )
        for content, vector, norm in rows:
            found[content] = np.frombuffer(vector, "<f2").astype(np.float32) * np.float32(norm)
    return found


def find_embedding(catalog: Catalog, content_hash: str, space: str) -> int | None:
    """Return the id of a picture's embedding in a space if searches may return it, else None."""
    sql = f"SELECT id FROM embeddings WHERE space = ? AND hash = ? AND {IS_SEARCHABLE}"
    row = catalog.db.execute(sql, [space, content_hash]).fetchone()
    return row[0] if row else None


def sample_contents(catalog: Catalog, space: str, count: int, seed: int = 0) -> list[tuple[str, int]]:
    """Draw at most `count` searchable contents of a space; return (content hash, embedding id), ordered by id.

    The same seed draws the same sample.
    """
    sql = f"SELECT hash, id FROM embeddings WHERE space = ? AND {IS_SEARCHABLE} ORDER BY id"
    rows = [(row[0], row[1]) for row in catalog.db.execute(sql, [space])]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return [rows[i] for i in sorted(chosen)]
