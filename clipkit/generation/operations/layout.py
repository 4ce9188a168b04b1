"""Keeping a picture's layout: sampling starts from the picture instead of noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipkit.generation.job import shortest_side
from clipkit.generation.operations.sources import Source
from clipkit.generation.registry import DecoderEntry

if TYPE_CHECKING:
    from clipkit.generation.decoder import Start


def layout_start(source: Source, entry: DecoderEntry, strength: float) -> Start | None:
    """Return what sampling starts from to keep the picture's layout; None at a strength of 1, which keeps none."""
    from clipkit.generation.decoder import Start

    return Start(source.open(shortest_side(entry)), strength) if strength < 1 else None
