"""Training data: painted scenes in random and in canonical poses, and folders of captioned images."""

from __future__ import annotations

import json
import re
from itertools import islice

import pytest
from PIL import Image

from clipkit.errors import ClipkitError
from clipkit.samples.world import scenes, settings, things
from clipkit.training.data_sources import ArrangedPairs, CanonicalScenes, CaptionedFolder, PaintedScenes
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


class TestCaptionedFolder:
    def test_captions_beside_images(self, tmp_path):
        Image.new("RGB", (90, 60), (255, 0, 0)).save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("something red\n")
        Image.new("RGB", (9, 6)).save(tmp_path / "without.png")
        source = CaptionedFolder(tmp_path)
        assert len(source) == 1 and source.caption(0) == "something red"
        assert source.image(0, 32).size == (32, 32)

    def test_captions_in_metadata_jsonl(self, tmp_path):
        (tmp_path / "sub").mkdir()
        Image.new("L", (20, 60), 9).save(tmp_path / "sub" / "b.jpg")
        (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "sub/b.jpg", "text": "dark"}) + "\n\n")
        source = CaptionedFolder(tmp_path)
        assert source.caption(0) == "dark" and source.image(0, 16).mode == "RGB"

    def test_no_captions_and_corrupt_images_raise_a_clear_error(self, tmp_path):
        with pytest.raises(ClipkitError, match="metadata.jsonl"):
            CaptionedFolder(tmp_path)
        (tmp_path / "c.jpg").write_bytes(b"not an image")
        (tmp_path / "c.txt").write_text("corrupt")
        with pytest.raises(ClipkitError, match="c.jpg"):
            CaptionedFolder(tmp_path).image(0, 16)


def test_painted_scenes_are_determined_by_index_and_seed_and_respect_the_hold_out():
    world, held = PaintedScenes(30), PaintedScenes(30, held_out=True)
    assert world.scene(3) == PaintedScenes(30).scene(3) and world.scene(3) != PaintedScenes(30, seed=1).scene(3)
    assert not any(world.scene(i).held_out for i in range(30))
    assert all(held.scene(i).held_out for i in range(30))
    assert world.caption(3) == PaintedScenes(99).caption(3)


def test_arranged_pairs_show_every_arrangement_and_no_held_out_pair():
    source = ArrangedPairs(200, seed=5)
    drawn = [source.scene(index) for index in range(200)]
    assert not any(scene.held_out for scene in drawn)
    pairs = [scene.relation for scene in drawn if len(scene.placed) == 2]
    assert len(pairs) > 150 and min(pairs.count(relation) for relation in ("left", "right", "above", "below")) > 15
    for index, scene in enumerate(drawn):
        names = {name for placed in scene.placed for name in (*placed.thing.names, placed.thing.plural)}
        assert sum(name in source.caption(index) for name in names) >= len(scene.placed)
        shown = [part % len(things()) for part in source.parts(index)[:-1]]
        assert shown == [placed.thing.index for placed in scene.placed]
