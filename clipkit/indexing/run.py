"""One run of the indexer, from the folders to a published search index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.records import Failure
from clipkit.images.decoding import Limits
from clipkit.images.files import is_absent
from clipkit.images.worker import DecodePool
from clipkit.indexing import pipeline
from clipkit.indexing.absence import settle
from clipkit.indexing.counting import Tally
from clipkit.indexing.report import IndexReport
from clipkit.marks.reading import find_evidence
from clipkit.models.encoder import Encoder
from clipkit.progress import ProgressCallback


def index(
    catalog: Catalog,
    encoder: Encoder,
    roots: Mapping[Path, Sequence[str]],
    *,
    library: str,
    batch_size: int = 32,
    workers: int | None = None,
    limits: Limits | None = None,
    remove_missing: bool = False,
    progress: ProgressCallback | None = None,
) -> IndexReport:
    """Brings the catalog up to date with the files below `roots`, absolute paths, each with the globs that it leaves
    out; hold the catalog's write lock.

    Batches are committed as they are done. Files that have vanished are taken out at the end, once the scan has seen
    every root; see `clipkit.indexing.absence` for what counts as away, and loses nothing unless `remove_missing`.
    """
    report = IndexReport(library, encoder.space, spaces=[encoder.space])
    limits = limits or Limits()
    # A root that cannot be looked at is scanned all the same: the scan says why.
    present = {root: globs for root, globs in roots.items() if not is_absent(root)}
    catalog.begin_scan()
    in_flight: set[str] = set()
    broken: dict[tuple[str, str], Failure] = {}
    mounts: list[Path] = []
    tally = Tally(present, progress)
    pool = DecodePool(workers or default_workers(), encoder.preprocessing, limits, examine=find_evidence)
    try:
        with pool:
            found = pipeline.scan(present, mounts)
            new: Iterable[pipeline.Item] = pipeline.diff(found, catalog, encoder.space, limits, report, tally)
            while True:
                again: list[pipeline.Item] = []
                hashed = pipeline.hash_all(new, limits)
                recognised = pipeline.recognise(hashed, catalog, encoder.space, in_flight)
                decoded = pipeline.decode(recognised, pool)
                for batch in pipeline.batches(decoded, batch_size):
                    embeddings = pipeline.encode(batch, encoder, batch_size, catalog)
                    postponed = pipeline.commit(batch, embeddings, catalog, limits, report, broken)
                    in_flight.difference_update(item.hash for item in batch if item.needs_decoding)
                    again += postponed
                    tally.step(len(batch) - len(postponed))
                if not again:
                    break
                new = again
    finally:
        tally.close()
    removed, report.moved, report.notes = settle(catalog, roots, mounts, remove_missing=remove_missing)
    report.removed = removed - report.moved
    report.added -= report.moved
    report.duplicates = max(0, report.duplicates - report.moved)
    return report


def default_workers() -> int:
    """One decoding process a core, at most eight: beyond that, encoding is what takes the time."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, available))
