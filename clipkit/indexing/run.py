"""One run of the indexer, from the folders to a published search index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.errors import UnreadableImage
from clipkit.images.decoding import Limits
from clipkit.images.worker import DecodePool
from clipkit.indexing import pipeline
from clipkit.indexing.counting import Tally
from clipkit.indexing.report import IndexReport
from clipkit.marks.reading import made_by
from clipkit.progress import ProgressCallback
from clipkit.spaces.encoder import Encoder


def index(
    catalog: Catalog,
    encoder: Encoder,
    roots: Sequence[Path],
    *,
    library: str,
    exclude: Sequence[str] = (),
    batch_size: int = 32,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: ProgressCallback | None = None,
) -> IndexReport:
    """Brings the catalog up to date with the files below `roots`, absolute paths; hold the catalog's write lock.

    Batches are committed as they are done. Files that have vanished are taken out at the end, once the scan has seen
    every root; a root that is itself not there (a drive that is away) loses nothing.
    """
    report = IndexReport(library, encoder.space, spaces=[encoder.space])
    present = [root for root in roots if root.exists()]
    catalog.begin_scan()
    in_flight: set[str] = set()
    broken: dict[str, UnreadableImage] = {}
    tally = Tally(present, exclude, progress)
    pool = DecodePool(workers or default_workers(), encoder.preprocessing, limits or Limits(), examine=made_by)
    try:
        with pool:
            found = pipeline.scan(present, exclude)
            new = pipeline.diff(found, catalog, encoder.space, report, tally)
            hashed = pipeline.hash_all(new)
            recognised = pipeline.recognise(hashed, catalog, encoder.space, in_flight)
            decoded = pipeline.decode(recognised, pool)
            for batch in pipeline.batches(decoded, batch_size):
                embeddings = pipeline.encode(batch, encoder, batch_size, catalog)
                pipeline.commit(batch, embeddings, catalog, report, broken)
                in_flight.difference_update(item.hash for item in batch if item.needs_decoding)
                tally.step(len(batch))
    finally:
        tally.close()
    removed, report.moved = catalog.remove_vanished(present)
    report.removed = removed - report.moved
    report.added -= report.moved
    report.duplicates -= report.moved
    return report


def default_workers() -> int:
    """One decoding process a core, at most eight: beyond that, encoding is what takes the time."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, available))
