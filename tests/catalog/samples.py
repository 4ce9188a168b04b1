"""Sample rows for a catalog, and programs that run in another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import clipkit
from clipkit.catalog.catalog import Catalog
from clipkit.catalog.rows import Details, Embedding, Failure, NewImage

SPACE = "tiny"
DIMENSION = 8


def photo(path: str | Path, content: str, *, size: int = 10, mtime_ns: int = 1, **details) -> NewImage:
    """Return a file with new content."""
    return NewImage(Path(path), size, mtime_ns, content, Details(4, 3, "JPEG", **details))


def copy(path: str | Path, content: str, *, size: int = 10, mtime_ns: int = 1) -> NewImage:
    """Return a file with content that the catalog knows under another path."""
    return NewImage(Path(path), size, mtime_ns, content)


def failure(path: str | Path, kind: str = "truncated", reason: str = "it ends early") -> Failure:
    return Failure(Path(path), 10, 1, kind, reason)


def vector_of(content: str) -> np.ndarray:
    """Return float32 (d,), not normalised, deterministic for each content."""
    seed = int.from_bytes(content.encode()[:8].ljust(8, b"."), "little")
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32) * 3


def embeddings(*contents: str) -> list[Embedding]:
    return [Embedding(content, vector_of(content)) for content in contents]


def put(catalog: Catalog, *images: NewImage, space: str = SPACE) -> None:
    """Commit files with their missing embeddings, as the indexer does."""
    new = {i.hash for i in images if i.details} - catalog.known_contents([i.hash for i in images], space)
    catalog.commit_batch(images, space=space, embeddings=embeddings(*sorted(new)))


def revision(catalog: Catalog, space: str = SPACE) -> int:
    return catalog.spaces()[space][1]


def paths(catalog: Catalog) -> set[str]:
    """Return all files of the library."""
    from clipkit.catalog.paths import from_stored

    return {str(from_stored(row[0])) for row in catalog.db.execute("SELECT path FROM images")}


def id_of(catalog: Catalog, content: str, space: str = SPACE) -> int:
    row = catalog.db.execute("SELECT id FROM embeddings WHERE hash = ? AND space = ?", [content, space]).fetchone()
    return row[0]


def start(program: str, *arguments: str | Path) -> subprocess.Popen:
    """Run a Python program in another process that can import this clipkit and these samples."""
    folders = [str(Path(clipkit.__file__).parents[1]), str(Path(__file__).parents[1])]
    head = f"import sys; sys.path[:0] = {folders!r}\n"
    command = [sys.executable, "-c", head + program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def embedded(catalog: Catalog, space: str) -> tuple[int, int]:
    """Return how many embeddings a space has, including orphans, and their largest id."""
    sql = "SELECT COUNT(*), COALESCE(MAX(id), 0) FROM embeddings WHERE space = ?"
    return tuple(catalog.db.execute(sql, [space]).fetchone())
