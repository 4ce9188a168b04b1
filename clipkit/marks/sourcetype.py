"""IPTC's words for where a picture comes from (https://cv.iptc.org/newscodes/digitalsourcetype/)."""

from __future__ import annotations

import re

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Made by a model that was trained: what clipkit writes."""

_MADE = {"trainedalgorithmicmedia", "compositewithtrainedalgorithmicmedia", "algorithmicmedia"}


def term(value: str) -> str:
    """The last part of the address, which other tools also write alone: "trainedAlgorithmicMedia"."""
    return re.split(r"[/:#]", value.strip().rstrip("/"))[-1]


def says_made(value: str) -> bool:
    """Whether a DigitalSourceType says that an algorithm made the picture, or a part of it."""
    return term(value).lower() in _MADE
