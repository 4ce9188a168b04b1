"""The photos that `clipkit demo` writes: painted scenes as JPEG files with the metadata that cameras write."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from clipkit.progress import Progress, ProgressCallback
from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, compose, random_scene, settings, things

ABSENT_THINGS = ("whale", "helicopter", "violin", "pineapple")
"""Things that no sample photo shows, for searches that should find nothing."""

_FEATURED = (
    "cat beach",
    "dog meadow",
    "penguin snow",
    "robot city",
    "umbrella rain",
    "rocket space",
    "teddy bear room",
    "car street",
    "balloon party",
    "camel desert",
    "owl night",
    "sailboat sunset",
    "bear forest",
    "sheep mountains",
    "octopus ocean",
    "butterfly rainbow",
    "dog + soccer ball beach",
    "pizza + coffee room",
)
"""Scenes, as things and setting, that are always included so that the searches in the docs match."""

_CAMERAS = (("Canon", "EOS R8"), ("FUJIFILM", "X-T5"), ("Google", "Pixel 9"))
_PLACES = {"Lisbon": (38.7223, -9.1393), "Kyoto": (35.0116, 135.7681), "Nairobi": (-1.2921, 36.8219)}


def sample_scenes(count: int) -> list[Scene]:
    """Return the scenes of the sample photos: deterministic, and without the things in `ABSENT_THINGS`."""
    rng = random.Random("samples")
    things_by_name = {thing.name: thing for thing in things()}
    settings_by_name = {setting.name: setting for setting in settings()}
    scenes = []
    for line in _FEATURED[:count]:
        what, _, where = line.rpartition(" ")
        shown = [things_by_name[name] for name in what.split(" + ")]
        scenes.append(compose(settings_by_name[where], shown, rng))
    endless = iter(lambda: random_scene(rng), None)
    others = (s for s in endless if not any(p.thing.name in ABSENT_THINGS for p in s.placed))
    return scenes + list(islice(others, count - len(scenes)))


def write_samples(folder: Path, count: int, *, size: int = 256, progress: ProgressCallback | None = None) -> None:
    """Write `count` JPEG files of `size` x `size` pixels into one folder a year; keep files that exist."""
    for i, scene in enumerate(sample_scenes(count)):
        rng = random.Random(scene.seed)
        taken = datetime(2023, 1, 1, 9) + timedelta(minutes=rng.randrange(3 * 365 * 24 * 60))
        path = folder / str(taken.year) / f"IMG_{i:04}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            paint(scene, size).save(temporary, "JPEG", quality=88, exif=_exif(taken, rng))
            temporary.replace(path)
        if progress:
            progress(Progress("painting", i + 1, count))


def _exif(taken: datetime, rng: random.Random) -> Image.Exif:
    make, model = rng.choice(_CAMERAS)
    latitude, longitude = rng.choice(tuple(_PLACES.values()))
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = make, model
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = taken.strftime("%Y:%m:%d %H:%M:%S")
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "N" if latitude >= 0 else "S",
            GPS.GPSLatitude: _degrees(abs(latitude) + rng.uniform(0, 0.02)),
            GPS.GPSLongitudeRef: "E" if longitude >= 0 else "W",
            GPS.GPSLongitude: _degrees(abs(longitude) + rng.uniform(0, 0.02)),
        }
    )
    return exif


def _degrees(value: float) -> tuple[float, float, float]:
    """Convert decimal degrees to degrees, minutes and seconds, as EXIF stores them."""
    minutes = value % 1 * 60
    return float(int(value)), float(int(minutes)), round(minutes % 1 * 60, 3)
