"""Progress reports of long operations, for the command line's bars or any other callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` items of a stage; `total` is None while unknown; `rate` is in items per second."""

    stage: str
    done: int
    total: int | None = None
    rate: float = 0.0


ProgressCallback = Callable[[Progress], None]
