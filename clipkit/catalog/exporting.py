"""Export embeddings and metadata for other tools, in the file layout of clip-retrieval.

FOLDER/img_emb/img_emb_0.npy         float16 (n, d), unit vectors
FOLDER/metadata/metadata_0.parquet   image_path and the catalog's columns, one row per vector, in the same order
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.paths import from_stored
from clipkit.errors import ClipkitError
from clipkit.progress import Progress, ProgressCallback

_COLUMNS = ("width", "height", "format", "taken_at", "utc_offset", "camera", "latitude", "longitude", "hash")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported: the number of `vectors` (one per file, duplicates included) in how many `parts`."""

    folder: str
    model: str
    vectors: int
    parts: int

    def to_json(self) -> dict:
        return asdict(self)


def export(
    catalog: Catalog, space: str, folder: Path, *, part_size: int, progress: ProgressCallback | None = None
) -> ExportReport:
    """Export every searchable file of a space in parts of `part_size` rows; only one part is in memory at a time.

    Raises ClipkitError if the folder already holds an export.
    """
    import pyarrow
    import pyarrow.parquet

    vectors_folder, metadata_folder = folder / "img_emb", folder / "metadata"
    if any(vectors_folder.glob("*.npy")) or any(metadata_folder.glob("*.parquet")):
        raise ClipkitError(f"{folder} already holds an export: choose another folder, or delete it first")
    vectors_folder.mkdir(parents=True, exist_ok=True)
    metadata_folder.mkdir(parents=True, exist_ok=True)
    dimension = catalog.spaces()[space][0]
    total = catalog.db.execute(
        "SELECT COUNT(*) FROM images JOIN embeddings USING (hash) WHERE space = ? AND images.shown", [space]
    ).fetchone()[0]
    done = part = 0
    for rows in _parts(catalog, space, part_size):
        vectors = np.frombuffer(b"".join(row[1] for row in rows), "<f2").reshape(len(rows), dimension)
        np.save(vectors_folder / f"img_emb_{part}.npy", vectors)
        columns: dict[str, list] = {"image_path": [_text(row[0]) for row in rows]}
        columns |= {name: [row[2 + i] for row in rows] for i, name in enumerate(_COLUMNS)}
        pyarrow.parquet.write_table(
            pyarrow.table(columns, schema=_schema(pyarrow)), metadata_folder / f"metadata_{part}.parquet"
        )
        done, part = done + len(rows), part + 1
        if progress:
            progress(Progress("exporting", done, total))
    return ExportReport(str(folder), space, done, part)


def _parts(catalog: Catalog, space: str, size: int) -> Iterator[list[tuple]]:
    columns = ", ".join(f"images.{name}" for name in _COLUMNS)
    rows = catalog.db.execute(
        f"SELECT images.path, embeddings.vector, {columns} FROM embeddings JOIN images USING (hash)"
        " WHERE embeddings.space = ? AND images.shown ORDER BY embeddings.id, images.id",
        [space],
    )
    while part := rows.fetchmany(size):
        yield part


def _text(path: str | bytes) -> str:
    """Return a path as text, which is what Parquet stores; undecodable bytes are escaped."""
    return str(from_stored(path)).encode("utf-8", "backslashreplace").decode()


def _schema(pyarrow: Any) -> Any:
    kinds = {"width": pyarrow.int32(), "height": pyarrow.int32(), "latitude": pyarrow.float64()}
    kinds["longitude"] = pyarrow.float64()
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in ("image_path", *_COLUMNS)])
