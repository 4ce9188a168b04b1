"""Progress of an indexing run; a thread counts the files, so that the time left can be estimated."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipkit.images.discovery import count
from clipkit.progress import Progress, ProgressCallback


class Tally:
    """Reports how many of the files below `roots` are done; `roots` maps folders to their excluded globs.

    Does nothing without a callback.
    """

    def __init__(self, roots: Mapping[Path, Sequence[str]], report: ProgressCallback | None) -> None:
        self._report, self._done = report, 0
        self._total: int | None = None
        self._started = self._shown = time.monotonic()
        self._stop = threading.Event()
        if report:
            threading.Thread(target=self._count, args=(dict(roots),), daemon=True).start()

    def _count(self, roots: dict[Path, Sequence[str]]) -> None:
        self._total = count(roots, roots, self._stop.is_set)

    def step(self, files: int = 1) -> None:
        """Count `files` more as done; report at most ten times per second."""
        self._done += files
        now = time.monotonic()
        if self._report and now - self._shown > 0.1:
            self._shown = now
            rate = self._done / (now - self._started)
            self._report(Progress("indexing", self._done, self._total, rate))

    def close(self) -> None:
        """Stop the counting thread and report the final state."""
        self._stop.set()
        if self._report:
            rate = self._done / max(1e-9, time.monotonic() - self._started)
            self._report(Progress("indexing", self._done, self._done, rate))
