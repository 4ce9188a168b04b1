"""Loading a model in the background, while the pictures that it will encode are still being found and decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from clipkit.images.preprocessing import Preprocessing
from clipkit.models.encoder import Encoder
from clipkit.models.loading import known_encoder
from clipkit.models.reference import ModelRef


@dataclass(frozen=True)
class StartingEncoder:
    """What is known of a model before it is loaded; see `Encoder`.

    wait: returns the encoder once it is loaded. Raises ModelNotAvailable if it cannot be.
    """

    space: str
    dimension: int
    preprocessing: Preprocessing
    wait: Callable[[], Encoder]


@contextmanager
def start_encoder(model: str, load: Callable[[], Encoder]) -> Iterator[StartingEncoder]:
    """Call `load`, which loads the model of a canonical id, in the background; leaving the body waits for its end.

    A model that has not been exported yet is loaded before the body, in the calling thread: it is not known before what
    it needs, and Ctrl-C can interrupt the export, which may take a minute. Raises ModelNotAvailable.
    """
    known = known_encoder(ModelRef.of(model))
    if not known:
        encoder = load()
        yield StartingEncoder(encoder.space, encoder.dimension, encoder.preprocessing, lambda: encoder)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="clipkit-load") as threads:
        loading = threads.submit(load)
        yield StartingEncoder(known.space, known.dimension, known.preprocessing, loading.result)
