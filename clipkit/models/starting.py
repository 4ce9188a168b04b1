"""Loading a model in the background, once a picture is found that it has to encode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from clipkit.models.encoder import Encoder
from clipkit.models.loading import known_encoder
from clipkit.models.reference import ModelRef


class StartingEncoder:
    """A model that need not be loaded yet. `space`, `dimension` and `preprocessing` are those of `Encoder`."""

    def __init__(self, known: Encoder, load: Callable[[], Future[Encoder]]) -> None:
        self.space, self.dimension, self.preprocessing = known.space, known.dimension, known.preprocessing
        self._known, self._load = known, load
        self._loading: Future[Encoder] | None = None

    def start(self) -> None:
        """Begin to load it in the background, unless that has been done."""
        self._loading = self._loading or self._load()

    def wait(self) -> Encoder:
        """Return it once it is loaded. Raises ModelNotAvailable if it cannot be."""
        self.start()
        assert self._loading
        return self._loading.result()

    def so_far(self) -> Encoder:
        """Return it as `wait` does if it was started, else one that loads only what it is asked for."""
        return self.wait() if self._loading else self._known


@contextmanager
def starting_encoder(model: str, load: Callable[[], Encoder]) -> Iterator[StartingEncoder]:
    """Yield the model of a canonical id, which `load` loads, on a thread; leaving the body waits for that thread.

    A model that has not been exported yet is loaded before the body, in the calling thread: it is not known before what
    it needs, and Ctrl-C can interrupt the export, which may take a minute. Raises ModelNotAvailable.
    """
    known = known_encoder(ModelRef.of(model))
    if not known:
        loaded: Future[Encoder] = Future()
        loaded.set_result(load())
        starting = StartingEncoder(loaded.result(), lambda: loaded)
        starting.start()
        yield starting
        return
    with ThreadPoolExecutor(1, thread_name_prefix="clipkit-load") as threads:
        yield StartingEncoder(known, lambda: threads.submit(load))
