"""The search index of a model: vectors and match statistics, derived from the catalog and written to disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.layout import Layout
from clipkit.matching import Matcher
from clipkit.models.encoder import Encoder
from clipkit.progress import Progress, ProgressCallback
from clipkit.searching.library_matcher import bank_vectors, fit_matcher, load_matcher, new_matcher, updated_matcher
from clipkit.vectors.current_vectors import (
    CurrentVectors,
    Plans,
    needed_work,
    publish_changes_from_catalog,
    publish_from_catalog,
)
from clipkit.vectors.plan import plan_for
from clipkit.vectors.unit import unit

PROBE_QUERIES = 256
"""Texts for which the number of probes is chosen."""


def publish_search_index(
    catalog: Catalog,
    layout: Layout,
    encoder: Encoder,
    *,
    always: bool = False,
    plans: Plans = plan_for,
    progress: ProgressCallback | None = None,
) -> bool:
    """Bring the search index of the encoder's space up to date, or rebuild it if `always`; hold the write lock.

    Small changes are added to it: new vectors to its tail and to the match statistics, and removed ones are skipped by
    searches. The statistics count removed pictures until the index is rebuilt, because the highest scores per concept
    cannot be reduced; that is at most a tenth of all.

    Returns whether it was written. Raises OSError if the disk is full; the previous index stays in place.
    """
    space = encoder.space
    folder, statistics = layout.vectors(space), layout.match_statistics(space)
    work = "everything" if always else needed_work(folder, space, catalog, plans)
    matcher: Matcher | None = None
    if work != "everything":
        current, saved = CurrentVectors(folder, space, catalog), load_matcher(statistics, encoder)
        if work == "nothing" and saved and saved.count == current.stored:
            return False
        if saved:
            matcher = updated_matcher(saved, current)
        if matcher is None and not len(current.removed):  # otherwise its count would not be that of the store
            matcher = fit_matcher(catalog, encoder, progress)
        if matcher:
            publish_changes_from_catalog(current, catalog)
            catalog.forget_changes(space, current.revision)
    matcher = matcher or _publish_everything(catalog, layout, encoder, plans, progress)
    matcher.save(statistics)
    return True


def _publish_everything(
    catalog: Catalog, layout: Layout, encoder: Encoder, plans: Plans, progress: ProgressCallback | None
) -> Matcher:
    """Rebuild the index, and fit the match decision to the same vectors as they pass."""
    space, total = encoder.space, catalog.count_searchable(encoder.space)
    bank = bank_vectors(encoder, progress)
    matcher = new_matcher(encoder, bank)

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for ids, vectors in catalog.searchable_embeddings(space):
            matcher.update(vectors)
            yield ids, vectors
            if progress:
                progress(Progress("building the search index", matcher.count, total))

    revision = catalog.spaces()[space][1]
    queries = probe_queries(bank)
    folder = layout.vectors(space)
    publish_from_catalog(folder, space, catalog, chunks=chunks(), queries=queries, plans=plans, progress=progress)
    catalog.forget_changes(space, revision)
    return matcher


def probe_queries(bank: np.ndarray) -> np.ndarray:
    """Return unit vectors, float32 (q, d), of texts for which the number of probes is chosen, from (c, d) of concepts.

    Half are concepts, half lie between two of them, as texts about two things do: those need more probes.
    """
    step = max(1, len(bank) // PROBE_QUERIES)
    chosen = bank[::step][:PROBE_QUERIES]
    half = -(-len(chosen) // 2)
    return np.concatenate([chosen[:half], unit(chosen[:half] + np.roll(chosen, half, axis=0)[:half])])
