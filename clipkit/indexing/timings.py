"""Where the time of an indexing run goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

STAGES = ("load", "scan", "hash", "decode", "encode", "commit", "publish")


class Timings:
    """The seconds that each of `STAGES` was at work.

    Hashing and decoding run beside the others, on several threads and processes, which are added up: with two decoding
    processes the run waits for nothing else if decoding takes twice its duration.
    """

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds of work; any thread may call it."""
        with self._lock:
            self._seconds[stage] += seconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the duration of the body."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and count the time that it takes to get them."""
        waiting = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            yield item

    def to_ms(self) -> dict[str, float]:
        """Return the stages in the order of the pipeline, in milliseconds."""
        return {stage: round(1000 * seconds, 1) for stage, seconds in self._seconds.items()}
