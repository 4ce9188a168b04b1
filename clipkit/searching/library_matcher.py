"""The match decision for one library and model: loaded, brought up to date, or fitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.matching import PHOTOGRAPHS, Calibration, Matcher, concepts
from clipkit.models.concepts import concept_vectors
from clipkit.models.encoder import Encoder
from clipkit.models.registry import entry
from clipkit.progress import Progress, ProgressCallback
from clipkit.vectors.current_vectors import CurrentVectors

MOST_LAG = 0.1
"""Statistics that differ from the library by less than this share of its pictures are used as they are."""


def current_matcher(path: Path, catalog: Catalog, encoder: Encoder, vectors: CurrentVectors) -> Matcher:
    """Return the match decision for the catalog as it is now; fits it in memory if the file cannot be brought up to
    date."""
    saved = load_matcher(path, encoder)
    if saved:
        if updated := updated_matcher(saved, vectors):
            return updated
        # Another process has just rebuilt the index. Fitting again would take minutes for a large library.
        if abs(saved.count - vectors.stored) <= MOST_LAG * vectors.stored:
            return saved
    return fit_matcher(catalog, encoder)


def updated_matcher(saved: Matcher, vectors: CurrentVectors) -> Matcher | None:
    """Add to a saved match decision the vectors that it lacks; None if it was not fitted to these vectors' store."""
    missing = vectors.added_after(saved.count)
    return None if missing is None else saved.update(missing)


def load_matcher(path: Path, encoder: Encoder) -> Matcher | None:
    """Return the saved match decision; None if it cannot be read or has another calibration or dimension than the
    encoder."""
    try:
        matcher = Matcher.load(path)
    except (OSError, ValueError):
        return None
    fits = matcher.calibration == calibration_for(encoder) and len(matcher.text_mean) == encoder.dimension
    return matcher if fits else None


def fit_matcher(catalog: Catalog, encoder: Encoder, progress: ProgressCallback | None = None) -> Matcher:
    """Fit the match decision to all searchable embeddings of the encoder's space, reading them in chunks."""
    matcher = new_matcher(encoder, bank_vectors(encoder, progress))
    total = catalog.count_searchable(encoder.space) if progress else 0
    for _, vectors in catalog.searchable_embeddings(encoder.space):
        matcher.update(vectors)
        if progress:
            progress(Progress("fitting the match decision", matcher.count, total))
    return matcher


def new_matcher(encoder: Encoder, bank: np.ndarray) -> Matcher:
    """Return the match decision of an empty library; bank: (c, d) float32, the vectors of the model's concepts."""
    no_images = np.zeros((0, encoder.dimension), np.float32)
    return Matcher.fit(no_images, bank, keep_images=False, calibration=calibration_for(encoder))


def bank_vectors(encoder: Encoder, progress: ProgressCallback | None = None) -> np.ndarray:
    """Return the vectors of the model's concepts, (c, d) float32 of unit length, encoded once for each model."""

    def report(done: int, total: int) -> None:
        if progress:
            progress(Progress("encoding concepts, once for this model", done, total))

    return concept_vectors(encoder, concepts_for(encoder), report)


def concepts_for(encoder: Encoder) -> Sequence[str]:
    """Return the model's own concept bank, or the general one."""
    return encoder.concepts or concepts()


def calibration_for(encoder: Encoder) -> Calibration:
    """Return the model's own calibration, that for photographs, or a cautious one for a model clipkit does not know."""
    if encoder.match:
        return Calibration.from_json(encoder.match)
    return PHOTOGRAPHS if entry(encoder.space) else PHOTOGRAPHS.cautious()


def calibration_in_use(path: Path) -> str | None:
    """Return in words how the saved match decision is calibrated; None if it cannot be read."""
    try:
        calibration = Matcher.load(path).calibration
    except (OSError, ValueError):
        return None
    kinds = {
        PHOTOGRAPHS: "for photographs",
        PHOTOGRAPHS.cautious(): "for photographs, with a wider margin, because clipkit does not know the model",
    }
    library, hit = calibration.threshold, calibration.hits.threshold
    numbers = f"the library has it from {library:.2f}, a hit shows it from {hit:.2f}"
    return f"calibrated {kinds.get(calibration, 'for this model')}: {numbers}"
