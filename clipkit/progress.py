"""What long work tells while it lasts: to the command line's bars, or to any other callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` files of a stage; total is None while they are still being counted; rate in files a second."""

    stage: str
    done: int
    total: int | None = None
    rate: float = 0.0


ProgressCallback = Callable[[Progress], None]
