"""Captioned pictures to train on: the emoji world, or any folder of pictures with captions."""

from __future__ import annotations

import json
import random
from functools import cached_property
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from clipkit.errors import ClipkitError
from clipkit.training.painting import paint
from clipkit.training.world import Scene, caption, random_scene

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


class CaptionedPictures(Protocol):
    """So many pictures with a caption each, the same picture for the same number."""

    name: str

    def __len__(self) -> int: ...

    def picture(self, index: int, size: int) -> Image.Image:
        """RGB, (size, size) pixels."""
        ...

    def caption(self, index: int) -> str: ...

    def things(self, index: int) -> int:
        """How many things the picture shows, as far as that is known, else 1."""
        ...


class EmojiWorld:
    """`count` painted scenes of the seed; of combinations that training may see, or of held-out ones only."""

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

    def caption(self, index: int) -> str:
        return caption(self.scene(index), random.Random(f"caption {self.seed} {index}"), place=False)

    def things(self, index: int) -> int:
        return len(self.scene(index).placed)


class CaptionedFolder:
    """Pictures below a folder, each with a caption.

    Captions come from `metadata.jsonl` in the folder (a line a picture: `{"file_name": ..., "text": ...}`), or from a
    text file beside each picture, of the same name with the suffix `.txt`. Pictures are cut to their middle square.
    """

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

    def caption(self, index: int) -> str:
        return self._rows[index][1]

    def things(self, index: int) -> int:
        return 1
