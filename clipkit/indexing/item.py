"""The item that flows through the indexing pipeline: one file."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from clipkit.catalog.rows import Details, Failure
from clipkit.errors import UnreadableImage
from clipkit.images.decode_pool import Decoded
from clipkit.images.failure_causes import failure_cause
from clipkit.images.file_access import modified_ns
from clipkit.images.limits import Limits
from clipkit.marks.reading import Evidence


@dataclass(slots=True)
class Item:
    """A file; each stage of the pipeline fills in what it finds, and a failure travels to the commit.

    `known_hash`: the catalog's hash for this path, None for a new file.
    `unchanged`: the catalog has this very file, and only this model's embedding is missing.
    `retries`: how often it was retried because it changed while being read.
    """

    path: Path
    size: int
    mtime_ns: int
    hash: str = ""
    known_hash: str | None = None
    unchanged: bool = False
    needs_decoding: bool = False
    retries: int = 0
    decoded: Decoded | None = None
    failure: UnreadableImage | None = None

    @property
    def content_key(self) -> tuple[str, str]:
        """What decoding depends on: the bytes, and the extension, which distinguishes RAW files from TIFF."""
        return self.hash, self.path.suffix.lower()

    def reset(self) -> Item:
        """Return the item as the scan found it."""
        return Item(
            self.path,
            self.size,
            self.mtime_ns,
            known_hash=self.known_hash,
            unchanged=self.unchanged,
            retries=self.retries,
        )

    def if_changed(self) -> Item | None:
        """Return a new item for the file if it exists and has changed since it was found."""
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return None
        now = status.st_size, modified_ns(status)
        if now == (self.size, self.mtime_ns) or not stat.S_ISREG(status.st_mode):
            return None
        return Item(self.path, *now, known_hash=self.known_hash, retries=self.retries + 1)

    def failure_record(self, limits: Limits) -> Failure | None:
        """Return the catalog's row for the failure, if there is one."""
        if not self.failure:
            return None
        cause = failure_cause(self.failure, limits.pixels)
        return Failure(self.path, self.size, self.mtime_ns, self.failure.kind, self.failure.reason, cause)

    def details(self) -> Details | None:
        """Return the catalog's details of the decoded picture, if it was decoded."""
        if self.decoded is None:
            return None
        meta = self.decoded.metadata
        found: Evidence | None = self.decoded.remark
        return Details(
            width=self.decoded.width,
            height=self.decoded.height,
            format=self.decoded.format,
            taken_at=meta.local_time,
            camera=meta.camera,
            lens=meta.lens,
            latitude=meta.latitude,
            longitude=meta.longitude,
            description=meta.description,
            generated=found.where if found else None,
            edited_from=found.edited_from if found else None,
            utc_offset=meta.utc_offset,
            title=meta.title,
            keywords=json.dumps(meta.keywords, ensure_ascii=False) if meta.keywords else None,
        )
