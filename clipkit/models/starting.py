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
        """Return the encoder once it is loaded. Raises ModelNotAvailable if it cannot be loaded."""
        self.start()
        assert self._loading
        return self._loading.result()

    def so_far(self) -> Encoder:
        """Return what `wait` does if loading was started, else an encoder that opens a tower when it first needs it."""
        return self.wait() if self._loading else self._known


@contextmanager
def starting_encoder(model: str, load: Callable[[], Encoder]) -> Iterator[StartingEncoder]:
    """Yield the model of a canonical id; `load` runs on a thread, and leaving the body waits for it.

    A model that has not been exported is loaded first, in the calling thread: only the loaded model tells what pixels
    it needs, and Ctrl-C can interrupt the export, which may take a minute. Raises ModelNotAvailable.
    """
    known = known_encoder(ModelRef.of(model))
    if not known:
        loaded: Future[Encoder] = Future()
        loaded.set_result(load())
        yield StartingEncoder(loaded.result(), lambda: loaded)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="clipkit-load") as threads:
        yield StartingEncoder(known, lambda: threads.submit(load))
