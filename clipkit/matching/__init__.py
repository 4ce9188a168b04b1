"""The match decision: does the library have what is asked for? Calibrated, and made from vectors alone.

`Matcher` makes the decision, `Calibration` holds its weights and threshold, and `concepts()` returns the words that
rival explanations of a picture are taken from.
"""

from __future__ import annotations

from clipkit.matching.bank import concepts
from clipkit.matching.calibration import PHOTOGRAPHS, Calibration
from clipkit.matching.matcher import Kind, Matcher

__all__ = ["PHOTOGRAPHS", "Calibration", "Kind", "Matcher", "concepts"]
