"""The match decision, from vectors alone: does the library have what is asked for, and which hits show it?

`Matcher` decides, `Calibration` and `HitCalibration` hold its weights and thresholds, and `concepts()` returns the
words that rival explanations of a picture are taken from.
"""

from __future__ import annotations

from clipkit.matching.bank import concepts
from clipkit.matching.calibration import PHOTOGRAPHS, Calibration, HitCalibration
from clipkit.matching.matcher import Judgement, Kind, Matcher

__all__ = ["PHOTOGRAPHS", "Calibration", "HitCalibration", "Judgement", "Kind", "Matcher", "concepts"]
