"""One library for many requests: a pool of connections that share the loaded models and vectors."""

from __future__ import annotations

import queue
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from clipkit.library import Library
from clipkit.models.loading import forget_encoders
from clipkit.searching.searchers import Searchers

T = TypeVar("T")
_KEPT_ANSWERS = 64


class LibraryPool:
    """Lends out a `Library` to one thread at a time; SQLite in WAL mode lets all of them read while one writes."""

    def __init__(self, path: Path, *, most_idle: int = 8) -> None:
        self.first = Library.open(path)
        self.searchers = self.first.searchers = Searchers(self.first.layout, keep_answering=True)
        self._idle: queue.LifoQueue[Library] = queue.LifoQueue(most_idle)
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()
        self._closed = False

    @contextmanager
    def library(self) -> Iterator[Library]:
        """Lend out a library for the block."""
        try:
            library = self._idle.get_nowait()
        except queue.Empty:
            library = self.first.for_thread()
        try:
            yield library
        finally:
            with suppress(queue.Full):
                if not self._closed:
                    self._idle.put_nowait(library)
                    library = None  # type: ignore[assignment]
            if library is not None:
                library.close()

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` returned for this key, computed again only when the catalog has changed."""
        key = (key, self._catalog_stamp())
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        answer = compute()
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return answer

    def _catalog_stamp(self) -> tuple:
        """Return what changes with every commit, by any process: the state of the catalog's file and of its log."""
        stamp = []
        for suffix in ("", "-wal"):
            path = self.first.layout.catalog
            try:
                status = path.with_name(path.name + suffix).stat()
                stamp.append((status.st_mtime_ns, status.st_size))
            except OSError:
                stamp.append((0, 0))
        return tuple(stamp)

    def release_idle(self, seconds: float) -> bool:
        """Let go of models and vectors if nobody has searched for so long; return whether there were any."""
        if not len(self.searchers) or time.monotonic() - self.searchers.last_used < seconds:
            return False
        self.searchers.clear()
        forget_encoders()
        return True

    def close(self) -> None:
        """Close all connections that are not lent out; those are closed when they come back."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
        self.first.close()
