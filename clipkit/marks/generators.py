"""Recognise other generators by the texts they leave in a picture: sampler settings, or a workflow graph."""

from __future__ import annotations

import re

# "masterpiece, a cat\nNegative prompt: ...\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, ..."
_SETTINGS = re.compile(r"\bSteps: \d+, .{0,2000}?\bSeed: \d+", re.DOTALL)
_GRAPH = re.compile(r'"class_type"\s*:\s*"[^"]*(Sampler|Checkpoint|UNET)', re.IGNORECASE)
_MAX_SCANNED = 50_000


def generator_of(keyword: str, text: str) -> str | None:
    """Return the generator that wrote this text, "Stable Diffusion web UI" or "ComfyUI", or None."""
    text = text[:_MAX_SCANNED]
    if keyword in ("parameters", "UserComment") and _SETTINGS.search(text):
        return "Stable Diffusion web UI"
    if keyword in ("prompt", "workflow") and _GRAPH.search(text):
        return "ComfyUI"
    return None
