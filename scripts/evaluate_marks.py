#!/usr/bin/env python3
"""How well does the invisible watermark hold, and how seldom is it seen where it is not? Prints a table.

    python scripts/evaluate_marks.py [PHOTOS...] [--scenes N] [--crops N]

Marked are the painted scenes of the bundled world and the middle squares of the photographs (folders; by default
../shared/photos and ../shared/formats), all at 256 px; each then suffers what happens to pictures, and is looked at
again. False alarms are counted on the photographs as they are, and on random crops of them, of 64 pixels or more,
resized at random.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
from PIL import Image, ImageEnhance, ImageOps  # noqa: E402

from clipkit.errors import UnreadableImage  # noqa: E402
from clipkit.images.decoding import open_picture  # noqa: E402
from clipkit.marks.watermark import HYPOTHESES, THRESHOLD, detect, embed  # noqa: E402
from clipkit.samples.painting import paint  # noqa: E402
from clipkit.samples.world import scenes  # noqa: E402

SHARED = Path(__file__).parents[1] / ".." / "shared"
SIDE = 256
Attack = Callable[[Image.Image], Image.Image]


def encoded(image: Image.Image, format_name: str, quality: int = 0) -> Image.Image:
    """What is left after saving and reading again."""
    out = io.BytesIO()
    image.save(out, format_name, **({"quality": quality} if quality else {}))
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def jpeg(quality: int) -> Attack:
    return lambda image: encoded(image, "JPEG", quality)


def resized(factor: float, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> Attack:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), resampling)


def both(*attacks: Attack) -> Attack:
    def run(image: Image.Image) -> Image.Image:
        for attack in attacks:
            image = attack(image)
        return image

    return run


def cropped(share: float) -> Attack:
    return lambda image: ImageOps.crop(image, round(share * image.width))


ATTACKS: dict[str, Attack] = {
    "PNG": lambda image: encoded(image, "PNG"),
    "JPEG 95": jpeg(95),
    "JPEG 75": jpeg(75),
    "JPEG 50": jpeg(50),
    "resized to 0.75": resized(0.75),
    "resized to half": resized(0.5),
    "resized to half, Lanczos": resized(0.5, Image.Resampling.LANCZOS),
    "resized to half, bilinear": resized(0.5, Image.Resampling.BILINEAR),
    "resized to half, box": resized(0.5, Image.Resampling.BOX),
    "JPEG 75, then half": both(jpeg(75), resized(0.5)),
    "half, then JPEG 75": both(resized(0.5), jpeg(75)),
    "JPEG 75, half, JPEG 75": both(jpeg(75), resized(0.5), jpeg(75)),
    "enlarged to 2.5": resized(2.5),
    "WebP 75": lambda image: encoded(image, "WEBP", 75),
    "grey": lambda image: image.convert("L"),
    "contrast + 10%": lambda image: ImageEnhance.Contrast(image).enhance(1.1),
    "brightness - 10%": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "cropped by 1% a side (for information)": cropped(0.01),
    "cropped by 10% a side (for information)": cropped(0.1),
}


def photographs(folders: Sequence[Path]) -> list[Image.Image]:
    """All that is a picture in the folders."""
    pictures = []
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        try:
            pictures.append(open_picture(path, shortest_side=2 * SIDE).image)
        except UnreadableImage:
            continue
    return pictures


def psnr(image: Image.Image, marked: Image.Image) -> float:
    """Peak signal-to-noise ratio of two pictures in dB."""
    difference = np.asarray(image, np.float64) - np.asarray(marked, np.float64)
    return 10 * np.log10(255**2 / np.mean(difference**2))


def report_survival(name: str, pictures: Sequence[Image.Image]) -> None:
    started = time.perf_counter()
    marked = [embed(picture) for picture in pictures]
    embedding = (time.perf_counter() - started) / len(pictures)
    started = time.perf_counter()
    for picture in marked:
        detect(picture)
    detecting = (time.perf_counter() - started) / len(pictures)
    noise = np.array([psnr(*pair) for pair in zip(pictures, marked, strict=True)])
    print(f"\n{name}: {len(pictures)} at {SIDE} px")
    print(f"PSNR {noise.mean():.1f} dB, worst {noise.min():.1f}; {embedding * 1e3:.1f} ms to embed, ", end="")
    print(f"{detecting * 1e3:.1f} ms to detect")
    print(f"{'':42}survive   lowest score   median")
    for what, attack in ATTACKS.items():
        scores = np.array([detect(attack(picture)).score for picture in marked])
        survived = np.mean(scores >= THRESHOLD)
        print(f"  {what:40}{survived:7.1%}   {scores.min():12.1f}   {np.median(scores):6.1f}")


def report_false_alarms(pictures: Sequence[Image.Image], crops: int) -> None:
    rng = random.Random(7)
    scores = [detect(picture).score for picture in pictures]
    whole = len(scores)
    large = [picture for picture in pictures if min(picture.size) >= 64]
    for _ in range(crops):
        picture = rng.choice(large)
        width, height = rng.randint(64, picture.width), rng.randint(64, picture.height)
        left, top = rng.randint(0, picture.width - width), rng.randint(0, picture.height - height)
        crop = picture.crop((left, top, left + width, top + height))
        if rng.random() < 0.5:
            crop = crop.resize((rng.randint(64, 512), rng.randint(64, 512)))
        scores.append(detect(crop).score)
    found = np.array(scores)
    print(
        f"\nFalse alarms: {np.sum(found >= THRESHOLD)} of {len(found):,} ({whole} photographs, {crops:,} crops of them)"
    )
    print(f"scores {found.mean():.2f} +- {found.std():.2f}, highest {found.max():.2f}, threshold {THRESHOLD}")
    print(f"bound on the chance of one: {HYPOTHESES} exp(-{THRESHOLD}^2 / 2) = ", end="")
    print(f"{HYPOTHESES * np.exp(-(THRESHOLD**2) / 2):.1e}")
    print("highest scores that one in N crops reaches, and the bound's word on N:")
    for share in (0.1, 0.01, 0.001, 0.0001):
        reached = float(np.quantile(found, 1 - share))
        print(
            f"  1 in {round(1 / share):6}: {reached:.2f}   bound {min(1.0, HYPOTHESES * np.exp(-(reached**2) / 2)):.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, default=[SHARED / "photos", SHARED / "formats"])
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--crops", type=int, default=20_000)
    arguments = parser.parse_args()
    report_survival("Painted scenes", [paint(scene, SIDE) for scene in islice(scenes(20_240_601), arguments.scenes)])
    photos = photographs([folder for folder in arguments.photos if folder.is_dir()])
    if photos:
        report_survival("Photographs", [ImageOps.fit(photo, (SIDE, SIDE)) for photo in photos])
        report_false_alarms(photos, arguments.crops)


if __name__ == "__main__":
    main()
