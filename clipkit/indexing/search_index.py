"""The search index of a model: vectors and match statistics, derived from the catalog and written to disk."""

from __future__ import annotations

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.layout import Layout
from clipkit.models.encoder import Encoder
from clipkit.progress import ProgressCallback
from clipkit.searching.library_matcher import fit_matcher, load_matcher
from clipkit.vectors.current_vectors import needs_publishing, publish_from_catalog


def publish_search_index(
    catalog: Catalog,
    layout: Layout,
    encoder: Encoder,
    *,
    always: bool = False,
    progress: ProgressCallback | None = None,
) -> bool:
    """Rebuild the search index of the encoder's space if it is out of date, or `always`; hold the write lock.

    Returns whether it was rebuilt. Raises OSError if the disk is full; the previous index stays in place.
    """
    space = encoder.space
    folder, statistics = layout.vectors(space), layout.match_statistics(space)
    if not (always or needs_publishing(folder, space, catalog) or load_matcher(statistics, encoder) is None):
        return False
    publish_from_catalog(folder, space, catalog)
    fit_matcher(catalog, encoder, progress).save(statistics)
    return True
