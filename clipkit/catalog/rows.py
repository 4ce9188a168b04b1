"""The rows that go in and out of the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from clipkit.catalog.paths import from_stored


@dataclass(frozen=True, slots=True)
class NewImage:
    """A file to record. The details are None for bytes that the catalog knows by another path: it copies them."""

    path: Path
    size: int
    mtime_ns: int
    hash: str
    details: Details | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What a picture's bytes say: pixels of the upright picture, and what the camera and people wrote.

    `taken_at` is local time, "YYYY-MM-DDTHH:MM:SS", and never holds an offset; `utc_offset` is that clock's, "+02:00",
    where it is known. `keywords`: a JSON list. `generated`: the places of marks that say that a model made it; None for
    photos.
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


@dataclass(frozen=True, slots=True)
class Embedding:
    """A content hash with its vector in one space, float32 (d,), as the image tower gave it, not normalised."""

    hash: str
    vector: np.ndarray


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that gave no picture. It is tried again once `size` or `mtime_ns` differ, or the `cause` may have gone,
    see `clipkit.images.failure_causes`."""

    path: Path
    size: int
    mtime_ns: int
    kind: str
    reason: str
    cause: str = ""

    def to_json(self) -> dict:
        """Plain data, as `clipkit failures --json` prints it."""
        return {"path": str(self.path), "kind": self.kind, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A file of the library, as a hit shows it."""

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
        """From the values of `COLUMNS`."""
        return cls(row[0], from_stored(row[1]), *row[2:])


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
