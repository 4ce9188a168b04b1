"""Browse a library without a query: its files in order, and how they spread over months, cameras and folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipkit.catalog.catalog import MAX_PARAMETERS, Catalog
from clipkit.catalog.filters import IS_ALLOWED, Filters, apply_filters, register_functions
from clipkit.catalog.paths import from_stored, where_at_or_below

Order = Literal["taken", "path"]

_ORDERS: dict[Order, str] = {
    # Undated files come last: SQLite sorts NULL before everything else.
    "taken": "images.taken_at DESC, images.id DESC",
    "path": "images.path, images.id",
}
_MAX_FOLDERS_INLINE = 20


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A file of the library with what the catalog knows about it; see `clipkit.catalog.rows.Details`."""

    id: int
    path: Path
    hash: str
    size: int
    width: int | None
    height: int | None
    format: str | None
    taken_at: str | None
    utc_offset: str | None
    camera: str | None
    lens: str | None
    latitude: float | None
    longitude: float | None
    title: str | None
    description: str | None
    keywords: str | None
    generated: str | None
    shown: bool

    COLUMNS = (
        "images.id, images.path, images.hash, images.size, images.width, images.height, images.format,"
        " images.taken_at, images.utc_offset, images.camera, images.lens, images.latitude, images.longitude,"
        " images.title, images.description, images.keywords, images.generated, images.shown"
    )

    @classmethod
    def from_sql(cls, row: tuple) -> ImageRecord:
        """Build it from the values of `COLUMNS`."""
        number, path, *values, shown = row
        return cls(number, from_stored(path), *(*values, bool(shown)))


@dataclass(frozen=True, slots=True)
class Facets:
    """Counts of files. months: ("2024-05", n), in order; cameras: the most frequent first; folders: in order.

    `undated`: files without a time. `located`: files with coordinates.
    """

    months: list[tuple[str, int]]
    undated: int
    located: int
    cameras: list[tuple[str, int]]
    folders: list[tuple[Path, int]]


def list_images(
    catalog: Catalog, filters: Filters, *, order: Order = "taken", offset: int = 0, limit: int = 100
) -> tuple[list[ImageRecord], int]:
    """Return `limit` of the shown files that pass the filters, and how many do in all.

    The folders of the filters must be those that the library records; see `recorded_paths`. Raises BadQuery.
    """
    condition, parameters = _condition(catalog, filters)
    sql = f"SELECT {ImageRecord.COLUMNS} FROM images WHERE {condition} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?"
    rows = catalog.db.execute(sql, [*parameters, limit, offset]).fetchall()
    total = catalog.db.execute(f"SELECT COUNT(*) FROM images WHERE {condition}", parameters).fetchone()[0]
    return [ImageRecord.from_sql(row) for row in rows], total


def find_images(catalog: Catalog, ids: Sequence[int]) -> dict[int, ImageRecord]:
    """Map those of the ids that the catalog has to their files, hidden ones included."""
    found: dict[int, ImageRecord] = {}
    for start in range(0, len(ids), MAX_PARAMETERS):
        part = list(ids[start : start + MAX_PARAMETERS])
        marks = ",".join("?" * len(part))
        for row in catalog.db.execute(f"SELECT {ImageRecord.COLUMNS} FROM images WHERE id IN ({marks})", part):
            found[row[0]] = ImageRecord.from_sql(row)
    return found


def find_files(catalog: Catalog, number: int) -> list[Path]:
    """Return the shown file of this id and then its copies, which have the same bytes; none if there is no such id."""
    sql = (
        "SELECT images.path FROM images JOIN images AS named USING (hash) WHERE named.id = ? AND named.shown"
        " AND images.shown ORDER BY images.id != named.id, images.id"
    )
    return [from_stored(path) for (path,) in catalog.db.execute(sql, [number])]


def facets(catalog: Catalog, filters: Filters) -> Facets:
    """Count the shown files that pass the filters by month, camera and folder. Raises BadQuery."""
    condition, parameters = _condition(catalog, filters)

    def counts(column: str) -> list[tuple]:
        sql = f"SELECT {column}, COUNT(*) FROM images WHERE {condition} GROUP BY 1 ORDER BY 1"
        return catalog.db.execute(sql, parameters).fetchall()

    months = counts("substr(images.taken_at, 1, 7)")
    cameras = sorted((row for row in counts("images.camera") if row[0]), key=lambda row: (-row[1], row[0]))
    # In Python, since SQLite has no function for it.
    folders: Counter[str] = Counter()
    for (path,) in catalog.db.execute(f"SELECT path FROM images WHERE {condition}", parameters):
        text = path if isinstance(path, str) else os.fsdecode(path)
        folders[text.rpartition(os.sep)[0]] += 1
    return Facets(
        months=[(month, count) for month, count in months if month is not None],
        undated=sum(count for month, count in months if month is None),
        located=sum(count for has_place, count in counts("images.latitude IS NOT NULL") if has_place),
        cameras=[(camera, count) for camera, count in cameras],
        folders=[(Path(folder or os.sep), folders[folder]) for folder in sorted(folders)],
    )


def _condition(catalog: Catalog, filters: Filters) -> tuple[str, list]:
    """Return an SQL condition over `images` for the shown files that pass the filters.

    It stands in the statement itself where it can, so that SQLite reads the index on time and stops at the limit.
    """
    if filters.where is not None or len(filters.under) > _MAX_FOLDERS_INLINE:
        apply_filters(catalog, filters)
        return IS_ALLOWED, []
    register_functions(catalog)
    condition, parameters = filters.condition()
    places = [where_at_or_below(folder, "images.path") for folder in filters.under]
    # `shown = 1` rather than `shown`: only so can the index on it be used.
    where = f"images.shown = 1 AND {condition}"
    if places:
        where += f" AND ({' OR '.join(sql for sql, _ in places)})"
    return where, [*parameters, *(value for _, values in places for value in values)]
