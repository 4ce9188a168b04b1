"""Does the library have it at all? A calibrated match decision that sees vectors only.

`Matcher` is the decision, `Calibration` its weights; `concepts()` are the words that other explanations of a picture
are taken from.
"""

from __future__ import annotations

from clipkit.matching.bank import concepts
from clipkit.matching.calibration import PHOTOGRAPHS, Calibration
from clipkit.matching.matcher import Kind, Matcher

__all__ = ["PHOTOGRAPHS", "Calibration", "Kind", "Matcher", "concepts"]
