"""Canonical poses, and the captions and parts of the decoder's training data."""

from __future__ import annotations

import re
from itertools import islice

from clipkit.samples.world import scenes, settings, things
from clipkit.training.data_sources import CanonicalScenes
from clipkit.training.poses import POSITIONS, in_canonical_poses, positions


def test_a_thing_has_the_same_pose_wherever_its_position_is_the_same():
    poses = {}
    for scene in islice(scenes(7), 300):
        canonical = in_canonical_poses(scene)
        assert canonical.content == scene.content and canonical.seed == scene.seed
        assert canonical.relation == scene.relation
        for placed, position in zip(canonical.placed, positions(canonical), strict=True):
            pose = (placed.x, placed.y, placed.width, placed.rotation, placed.mirrored)
            assert poses.setdefault(position, pose) == pose
    assert set(poses) == {"", "left", "right", "above", "below"}


def test_captions_determine_the_arrangement():
    """If a caption does not say which thing is where, the one that the world lists first is on the left."""
    source, unsaid = CanonicalScenes(400), 0
    for i in range(len(source)):
        scene, words = source.scene(i), source.caption(i)
        said = re.search(r"\b(left|right|above|below|over|under|beneath|on top of)\b", words)
        if not said and scene.relation:
            unsaid += 1
            assert scene.relation == "left" and scene.placed[0].thing.index < scene.placed[1].thing.index
    assert 30 < unsaid < 120


def test_parts_encode_what_is_where():
    source = CanonicalScenes(50)
    for i in range(len(source)):
        scene, parts = source.scene(i), source.parts(i)
        *shown, setting = parts
        assert setting - len(things()) * len(POSITIONS) == scene.setting.index
        found = {(POSITIONS[part // len(things())], part % len(things())) for part in shown}
        assert found == {
            (position, placed.thing.index) for position, placed in zip(positions(scene), scene.placed, strict=True)
        }
    assert sum(source.part_groups) == len(things()) * len(POSITIONS) + len(settings())
