#!/usr/bin/env python3
"""Measure the invisible watermark: its robustness to common image operations, and its false-positive rate.

    python scripts/evaluate_marks.py [PHOTOS...] [--scenes N] [--crops N]

Painted scenes and central squares of photographs (folders; by default ../shared/photos and ../shared/formats) are
watermarked at 256 px, attacked (recompressed, resized, cropped, ...) and checked again. False positives are counted on
the unmarked photographs and on random crops of them, at least 64 pixels wide and high and randomly resized.
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
    """Save in a format and read back."""
    out = io.BytesIO()
    image.save(out, format_name, **({"quality": quality} if quality else {}))
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def jpeg(quality: int) -> Attack:
    """Return an attack that recompresses as JPEG."""
    return lambda image: encoded(image, "JPEG", quality)


def resized(factor: float, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> Attack:
    """Return an attack that resizes by a factor."""
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), resampling)


def in_sequence(*attacks: Attack) -> Attack:
    """Return an attack that applies several, one after the other."""

    def run(image: Image.Image) -> Image.Image:
        for attack in attacks:
            image = attack(image)
        return image

    return run


def cropped(share: float) -> Attack:
    """Return an attack that crops a share of the width from each side."""
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
    "JPEG 75, then half": in_sequence(jpeg(75), resized(0.5)),
    "half, then JPEG 75": in_sequence(resized(0.5), jpeg(75)),
    "JPEG 75, half, JPEG 75": in_sequence(jpeg(75), resized(0.5), jpeg(75)),
    "enlarged to 2.5": resized(2.5),
    "WebP 75": lambda image: encoded(image, "WEBP", 75),
    "grey": lambda image: image.convert("L"),
    "contrast + 10%": lambda image: ImageEnhance.Contrast(image).enhance(1.1),
    "brightness - 10%": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "cropped by 1% per side (not claimed)": cropped(0.01),
    "cropped by 10% per side (not claimed)": cropped(0.1),
}


def photographs(folders: Sequence[Path]) -> list[Image.Image]:
    """Open every readable image in the folders."""
    images = []
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        try:
            images.append(open_picture(path, shortest_side=2 * SIDE).image)
        except UnreadableImage:
            continue
    return images


def psnr(image: Image.Image, marked: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two images in dB."""
    difference = np.asarray(image, np.float64) - np.asarray(marked, np.float64)
    return 10 * np.log10(255**2 / np.mean(difference**2))


def report_survival(name: str, images: Sequence[Image.Image]) -> None:
    """Print PSNR and times, and the share of watermarks that survive each attack."""
    started = time.perf_counter()
    marked = [embed(image) for image in images]
    embedding = (time.perf_counter() - started) / len(images)
    started = time.perf_counter()
    for image in marked:
        detect(image)
    detecting = (time.perf_counter() - started) / len(images)
    noise = np.array([psnr(*pair) for pair in zip(images, marked, strict=True)])
    print(f"\n{name}: {len(images)} at {SIDE} px")
    print(f"PSNR {noise.mean():.1f} dB, worst {noise.min():.1f}; {embedding * 1e3:.1f} ms to embed, ", end="")
    print(f"{detecting * 1e3:.1f} ms to detect")
    print(f"{'':42}survive   lowest score   median")
    for what, attack in ATTACKS.items():
        scores = np.array([detect(attack(image)).score for image in marked])
        survived = np.mean(scores >= THRESHOLD)
        print(f"  {what:40}{survived:7.1%}   {scores.min():12.1f}   {np.median(scores):6.1f}")


def report_false_positives(images: Sequence[Image.Image], crops: int) -> None:
    """Print how many unmarked images and crops reach the threshold, and the theoretical bound."""
    rng = random.Random(7)
    scores = [detect(image).score for image in images]
    whole = len(scores)
    large = [image for image in images if min(image.size) >= 64]
    for _ in range(crops):
        image = rng.choice(large)
        width, height = rng.randint(64, image.width), rng.randint(64, image.height)
        left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        crop = image.crop((left, top, left + width, top + height))
        if rng.random() < 0.5:
            crop = crop.resize((rng.randint(64, 512), rng.randint(64, 512)))
        scores.append(detect(crop).score)
    found = np.array(scores)
    print(f"\nFalse positives: {np.sum(found >= THRESHOLD)} of {len(found):,} ({whole} photographs, {crops:,} crops)")
    print(f"scores {found.mean():.2f} +- {found.std():.2f}, highest {found.max():.2f}, threshold {THRESHOLD}")
    print(f"bound on the false-positive rate: {HYPOTHESES} exp(-{THRESHOLD}^2 / 2) = ", end="")
    print(f"{HYPOTHESES * np.exp(-(THRESHOLD**2) / 2):.1e}")
    print("score reached by one in N crops, and the bound on its probability:")
    for share in (0.1, 0.01, 0.001, 0.0001):
        reached = float(np.quantile(found, 1 - share))
        print(
            f"  1 in {round(1 / share):6}: {reached:.2f}   bound {min(1.0, HYPOTHESES * np.exp(-(reached**2) / 2)):.1e}"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, default=[SHARED / "photos", SHARED / "formats"])
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--crops", type=int, default=20_000)
    arguments = parser.parse_args()
    report_survival("Painted scenes", [paint(scene, SIDE) for scene in islice(scenes(20_240_601), arguments.scenes)])
    photos = photographs([folder for folder in arguments.photos if folder.is_dir()])
    if photos:
        report_survival("Photographs", [ImageOps.fit(photo, (SIDE, SIDE)) for photo in photos])
        report_false_positives(photos, arguments.crops)


if __name__ == "__main__":
    main()
