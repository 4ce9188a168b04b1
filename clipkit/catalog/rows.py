"""Rows that are written to and read from the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from clipkit.catalog.paths import from_stored


@dataclass(frozen=True, slots=True)
class NewImage:
    """A file to record. Without `details`, they are copied from another file with the same content."""

    path: Path
    size: int
    mtime_ns: int
    hash: str
    details: Details | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What a picture's bytes say about it.

    `width`, `height`: of the upright picture, in pixels.
    `taken_at`: local time, "YYYY-MM-DDTHH:MM:SS", without an offset.
    `utc_offset`: the offset of that local time, such as "+02:00", if known.
    `keywords`: a JSON list.
    `generated`: which marks say that it, or a part of it, was generated; None for photos.
    `edited_from`: for edited pictures the hash of the original, or "" if the marks do not say; else None.
    """

    width: int
    height: int
    format: str
    taken_at: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    description: str | None = None
    generated: str | None = None
    utc_offset: str | None = None
    title: str | None = None
    keywords: str | None = None
    edited_from: str | None = None


@dataclass(frozen=True, slots=True)
class Embedding:
    """A content hash with its vector in one space: float32 (d,), as returned by the image tower, not normalised."""

    hash: str
    vector: np.ndarray


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be decoded.

    It is retried when `size` or `mtime_ns` change, or when its `cause` may be gone: `clipkit.images.failure_causes`.
    """

    path: Path
    size: int
    mtime_ns: int
    kind: str
    reason: str
    cause: str = ""

    def to_json(self) -> dict:
        """Return plain data, as `clipkit failures --json` prints it."""
        return {"path": str(self.path), "kind": self.kind, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A file of the library, with what a hit shows."""

    id: int
    path: Path
    hash: str
    width: int | None
    height: int | None
    taken_at: str | None
    camera: str | None
    utc_offset: str | None

    COLUMNS = (
        "images.id, images.path, images.hash, images.width, images.height, images.taken_at, images.camera,"
        " images.utc_offset"
    )

    @classmethod
    def from_sql(cls, row: tuple) -> ImageRow:
        """Build it from the values of `COLUMNS`."""
        return cls(row[0], from_stored(row[1]), *row[2:])


def now() -> str:
    """Return the current time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
