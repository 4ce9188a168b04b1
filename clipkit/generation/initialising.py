"""Initialisation of new layers."""

from __future__ import annotations

from torch import nn


def start_at_zero(layer: nn.Module) -> None:
    """Zero a block's last layer, so that the block starts out adding nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
