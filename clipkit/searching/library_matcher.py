"""The match decision for one library and model: loaded, brought up to date, or fitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.matching import PHOTOGRAPHS, Calibration, Matcher, concepts
from clipkit.models.concepts import concept_vectors
from clipkit.models.encoder import Encoder
from clipkit.progress import Progress, ProgressCallback
from clipkit.vectors.current_vectors import CurrentVectors


def current_matcher(path: Path, catalog: Catalog, encoder: Encoder, vectors: CurrentVectors) -> Matcher:
    """Return the match decision for the catalog as it is now; fits it in memory if the file cannot be brought up to
    date."""
    saved = load_matcher(path, encoder)
    if saved and saved.count == vectors.stored:
        return saved.update(vectors.newer)
    return fit_matcher(catalog, encoder)


def load_matcher(path: Path, encoder: Encoder) -> Matcher | None:
    """Return the saved match decision; None if it cannot be read or has another calibration or dimension than the
    encoder."""
    try:
        matcher = Matcher.load(path)
    except (OSError, ValueError):
        return None
    fits = matcher.calibration == _calibration(encoder) and len(matcher.text_mean) == encoder.dimension
    return matcher if fits else None


def fit_matcher(catalog: Catalog, encoder: Encoder, progress: ProgressCallback | None = None) -> Matcher:
    """Fit the match decision to all searchable embeddings of the encoder's space, reading them in chunks."""

    def report(done: int, total: int) -> None:
        if progress:
            progress(Progress("encoding concepts, once for this model", done, total))

    bank = concept_vectors(encoder, concepts_for(encoder), report)
    no_images = np.zeros((0, encoder.dimension), np.float32)
    matcher = Matcher.fit(no_images, bank, keep_images=False, calibration=_calibration(encoder))
    for _, vectors in catalog.searchable_embeddings(encoder.space):
        matcher.update(vectors)
    return matcher


def concepts_for(encoder: Encoder) -> Sequence[str]:
    """Return the model's own concept bank, or the general one."""
    return encoder.concepts or concepts()


def _calibration(encoder: Encoder) -> Calibration:
    return Calibration.from_json(encoder.match) if encoder.match else PHOTOGRAPHS
