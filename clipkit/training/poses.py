"""Canonical poses: each thing upright, at one place and size for each position in the scene.

The decoder trains on scenes in canonical poses. A thing then looks the same wherever its position is the same, which
takes a fraction of the training that random poses take.
"""

from __future__ import annotations

from dataclasses import replace

from clipkit.samples.world import OPPOSITE, PlacedThing, Scene

POSITIONS = ("", "left", "right", "above", "below")
"""Where a thing can be: alone in the centre, or on one side."""

_POSES = {
    "": (0.5, 0.54, 0.62),
    "left": (0.25, 0.56, 0.46),
    "right": (0.75, 0.56, 0.46),
    "above": (0.5, 0.26, 0.46),
    "below": (0.5, 0.75, 0.46),
}
"""Centre x, centre y and width for each position, as fractions of the image's side."""


def positions(scene: Scene) -> list[str]:
    """Return the position of each thing of the scene, one of `POSITIONS`."""
    return [scene.relation] if len(scene.placed) == 1 else [scene.relation, OPPOSITE[scene.relation]]


def in_canonical_poses(scene: Scene) -> Scene:
    """Return the same scene with each thing upright, unmirrored, and at the place and size of its position."""
    placed = zip(scene.placed, positions(scene), strict=True)
    return replace(scene, placed=tuple(PlacedThing(p.thing, *_POSES[position], 0.0, False) for p, position in placed))
