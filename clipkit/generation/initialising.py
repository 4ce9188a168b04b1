"""How new layers start."""

from __future__ import annotations

from torch import nn


def start_at_zero(layer: nn.Module) -> None:
    """Zero a last layer, so that the block it ends adds nothing until it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
