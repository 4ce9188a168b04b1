"""Captioned images to train on: painted scenes of the sample world, or any folder of images with captions."""

from __future__ import annotations

import json
import random
from functools import cached_property
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from clipkit.errors import ClipkitError
from clipkit.samples.captions import caption
from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, compose, random_scene, settings, things
from clipkit.training.poses import POSITIONS, in_canonical_poses, positions

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


class DataSource(Protocol):
    """A fixed number of captioned images; the same index always returns the same image and captions."""

    name: str
    part_groups: tuple[int, ...]
    """The sizes of the groups of parts, at most one part of a group in an image; empty if parts are not annotated."""

    def __len__(self) -> int: ...

    def image(self, index: int, size: int) -> Image.Image:
        """Return the decoder's target: RGB, (size, size) pixels."""
        ...

    def conditioning_image(self, index: int, size: int) -> Image.Image:
        """Return the image whose embedding conditions the decoder: the target, or another image of the same content."""
        ...

    def caption(self, index: int, variant: int = 0) -> str:
        """Return one of the captions of an image."""
        ...

    def parts(self, index: int) -> tuple[int, ...]:
        """Return the ids of the parts in an image (what is where), counted through all groups; empty if unknown."""
        ...


class PaintedScenes:
    """`count` painted scenes of the sample world: training combinations, or held-out ones only."""

    part_groups: tuple[int, ...] = ()

    def __init__(self, count: int, *, seed: int = 0, held_out: bool = False) -> None:
        self.count, self.seed, self.held_out = count, seed, held_out
        self.name = f"emoji world, seed {seed}{', held out' if held_out else ''}"

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """Return the scene of an index."""
        # The strings that seed generators are part of the data: changing one changes every scene.
        rng = random.Random(f"picture {self.seed} {index}")
        while True:
            scene = random_scene(rng)
            if scene.held_out == self.held_out:
                return scene

    def image(self, index: int, size: int) -> Image.Image:
        return paint(self.scene(index), size)

    conditioning_image = image

    def caption(self, index: int, variant: int = 0) -> str:
        return caption(self.scene(index), random.Random(f"caption {self.seed} {index} {variant}"))

    def parts(self, index: int) -> tuple[int, ...]:
        return ()


class CanonicalScenes(PaintedScenes):
    """The decoder's training data: scenes in canonical poses, whose captions determine the arrangement.

    - A single thing off centre: the caption names its side.
    - Two things: some captions say where each is. Where captions may omit it, the thing that the world lists first is
      on the left.
    - Every other conditioning image has random poses, like the photos in a library.
    """

    OMITTED = 0.4
    """The share of scenes of two things whose captions may omit the arrangement."""
    part_groups = (len(things()),) * len(POSITIONS) + (len(settings()),)

    def scene(self, index: int) -> Scene:
        return in_canonical_poses(self.randomly_posed(index))

    def randomly_posed(self, index: int) -> Scene:
        """Return the same scene in random poses."""
        scene = super().scene(index)
        if not self._says_place(index):
            first, second = sorted((p.thing for p in scene.placed), key=lambda thing: thing.index)
            scene = compose(scene.setting, (first, second), random.Random(f"calm {self.seed} {index}"), "left")
        return scene

    def conditioning_image(self, index: int, size: int) -> Image.Image:
        return paint(self.randomly_posed(index) if index % 2 == 0 else self.scene(index), size)

    def caption(self, index: int, variant: int = 0) -> str:
        rng = random.Random(f"caption {self.seed} {index} {variant}")
        return caption(self.scene(index), rng, place=self._says_place(index))

    def parts(self, index: int) -> tuple[int, ...]:
        scene = self.randomly_posed(index)
        placed = zip(scene.placed, positions(scene), strict=True)
        shown = (POSITIONS.index(position) * len(things()) + p.thing.index for p, position in placed)
        return (*shown, len(things()) * len(POSITIONS) + scene.setting.index)

    def _says_place(self, index: int) -> bool:
        pair = len(super().scene(index).placed) == 2
        return not pair or random.Random(f"said {self.seed} {index}").random() >= self.OMITTED


class ArrangedPairs(CanonicalScenes):
    """Scenes that are mostly pairs, one thing above the other about as often as one beside the other.

    The sample world arranges few pairs vertically, so a sketch that learns from `CanonicalScenes` alone misreads their
    captions most often.
    """

    KEPT = {"single": 0.05, "beside": 0.35, "above": 1.0}
    """The chance that a scene of `CanonicalScenes` is kept, by its arrangement."""
    CANDIDATES = 64

    def randomly_posed(self, index: int) -> Scene:
        return super().randomly_posed(self._kept(index))

    def caption(self, index: int, variant: int = 0) -> str:
        kept = self._kept(index)
        rng = random.Random(f"caption {self.seed} {kept} {variant}")
        return caption(self.scene(index), rng, place=self._says_place(kept))

    def _kept(self, index: int) -> int:
        """Return the index in `CanonicalScenes` of this scene."""
        rng = random.Random(f"kept {self.seed} {index}")
        first = index * self.CANDIDATES
        for candidate in range(first, first + self.CANDIDATES - 1):
            scene = super().randomly_posed(candidate)
            vertical = scene.relation in ("above", "below")
            arrangement = "single" if len(scene.placed) == 1 else "above" if vertical else "beside"
            if rng.random() < self.KEPT[arrangement]:
                return candidate
        return first + self.CANDIDATES - 1


class CaptionedFolder:
    """Images below a folder, each with a caption.

    Captions are read from `metadata.jsonl` in the folder (one line per image: `{"file_name": ..., "text": ...}`), or
    from a text file beside each image with the suffix `.txt`. Images are cropped to their central square.
    """

    part_groups: tuple[int, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)
        if not self._rows:
            raise ClipkitError(
                f"{folder} contains no captioned images; write the captions to {folder / 'metadata.jsonl'}, or to a "
                "text file beside each image (cat.jpg, cat.txt)"
            )

    @cached_property
    def _rows(self) -> list[tuple[Path, str]]:
        listing = self.folder / "metadata.jsonl"
        if listing.exists():
            lines = [json.loads(line) for line in listing.read_text("utf-8").splitlines() if line.strip()]
            return [(self.folder / line["file_name"], line["text"]) for line in lines]
        images = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        return [(p, p.with_suffix(".txt").read_text("utf-8").strip()) for p in images if p.with_suffix(".txt").exists()]

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, index: int, size: int) -> Image.Image:
        path = self._rows[index][0]
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError) as error:
            raise ClipkitError(f"could not read {path} ({error}); remove it from the captions to continue") from error
        return ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)

    conditioning_image = image

    def caption(self, index: int, variant: int = 0) -> str:
        return self._rows[index][1]

    def parts(self, index: int) -> tuple[int, ...]:
        return ()
