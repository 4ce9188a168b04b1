"""Captioned pictures to train on: the emoji world, or any folder of pictures with captions."""

from __future__ import annotations

import json
import random
from functools import cached_property
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from clipkit.errors import ClipkitError
from clipkit.samples.painting import paint
from clipkit.samples.world import SPOTS, Scene, calmed, caption, compose, random_scene, settings, spots, things

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


class CaptionedPictures(Protocol):
    """A number of pictures with captions, the same ones for the same index."""

    name: str
    part_groups: tuple[int, ...]
    """The sizes of the groups of parts that pictures can show, at most one part of each group in a picture; empty if
    they are not known."""

    def __len__(self) -> int: ...

    def picture(self, index: int, size: int) -> Image.Image:
        """What the decoder is to make: RGB, (size, size) pixels."""
        ...

    def example(self, index: int, size: int) -> Image.Image:
        """What CLIP sees of it: the same picture, or another of the same content; RGB, (size, size) pixels."""
        ...

    def caption(self, index: int, variant: int = 0) -> str:
        """One of the captions of a picture."""
        ...

    def parts(self, index: int) -> tuple[int, ...]:
        """What the picture shows and where, as numbers that count through the groups; empty if that is not known."""
        ...


class EmojiWorld:
    """`count` painted scenes of the seed; of combinations that training may see, or of held-out ones only."""

    part_groups: tuple[int, ...] = ()

    def __init__(self, count: int, *, seed: int = 0, held_out: bool = False) -> None:
        self.count, self.seed, self.held_out = count, seed, held_out
        self.name = f"emoji world, seed {seed}{', held out' if held_out else ''}"

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """The scene of that number."""
        rng = random.Random(f"picture {self.seed} {index}")
        while True:
            scene = random_scene(rng)
            if scene.held_out == self.held_out:
                return scene

    def picture(self, index: int, size: int) -> Image.Image:
        return paint(self.scene(index), size)

    example = picture

    def caption(self, index: int, variant: int = 0) -> str:
        return caption(self.scene(index), random.Random(f"caption {self.seed} {index} {variant}"))

    def parts(self, index: int) -> tuple[int, ...]:
        return ()


class CalmWorld(EmojiWorld):
    """What the decoder trains on: the emoji world in calm poses, with captions that leave no arrangement open.

    A caption names the side of a single thing that is not in the middle. Of the pairs, some captions say where each
    thing is, and the others may leave it out; those pictures have the thing that the world lists first on the left.
    CLIP sees every second scene in the free poses of the library's pictures, so that the decoder knows them too.
    """

    UNSAID = 0.4
    part_groups = (len(things()),) * len(SPOTS) + (len(settings()),)

    def scene(self, index: int) -> Scene:
        return calmed(self.lively(index))

    def lively(self, index: int) -> Scene:
        """The same scene in free poses."""
        scene = super().scene(index)
        if not self._says_place(index):
            first, second = sorted((p.thing for p in scene.placed), key=lambda thing: thing.index)
            scene = compose(scene.setting, (first, second), random.Random(f"calm {self.seed} {index}"), "left")
        return scene

    def example(self, index: int, size: int) -> Image.Image:
        return paint(self.lively(index) if index % 2 == 0 else self.scene(index), size)

    def caption(self, index: int, variant: int = 0) -> str:
        rng = random.Random(f"caption {self.seed} {index} {variant}")
        return caption(self.scene(index), rng, place=self._says_place(index))

    def parts(self, index: int) -> tuple[int, ...]:
        scene = self.lively(index)
        where = zip(scene.placed, spots(scene), strict=True)
        shown = (SPOTS.index(spot) * len(things()) + placed.thing.index for placed, spot in where)
        return (*shown, len(things()) * len(SPOTS) + scene.setting.index)

    def _says_place(self, index: int) -> bool:
        pair = len(super().scene(index).placed) == 2
        return not pair or random.Random(f"said {self.seed} {index}").random() >= self.UNSAID


class CaptionedFolder:
    """Pictures below a folder, each with a caption.

    Captions come from `metadata.jsonl` in the folder (a line a picture: `{"file_name": ..., "text": ...}`), or from a
    text file beside each picture, of the same name with the suffix `.txt`. Pictures are cut to their middle square.
    """

    part_groups: tuple[int, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, str(folder)
        if not self._rows:
            raise ClipkitError(
                f"{folder} holds no captioned picture: write the captions to {folder / 'metadata.jsonl'}, or to a "
                "text file beside each picture (cat.jpg, cat.txt)"
            )

    @cached_property
    def _rows(self) -> list[tuple[Path, str]]:
        listing = self.folder / "metadata.jsonl"
        if listing.exists():
            lines = [json.loads(line) for line in listing.read_text("utf-8").splitlines() if line.strip()]
            return [(self.folder / line["file_name"], line["text"]) for line in lines]
        pictures = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        return [
            (p, p.with_suffix(".txt").read_text("utf-8").strip()) for p in pictures if p.with_suffix(".txt").exists()
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def picture(self, index: int, size: int) -> Image.Image:
        path = self._rows[index][0]
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError) as error:
            raise ClipkitError(f"cannot read {path} ({error}); take it out of the captions to go on") from error
        return ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)

    example = picture

    def caption(self, index: int, variant: int = 0) -> str:
        return self._rows[index][1]

    def parts(self, index: int) -> tuple[int, ...]:
        return ()
