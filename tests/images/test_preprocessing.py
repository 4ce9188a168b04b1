from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit.images.decode_worker import decode_file
from clipkit.images.decoding import open_picture
from clipkit.images.limits import Limits
from clipkit.images.preprocessing import Preprocessing
from clipkit.searching.query import picture_and_size

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [(384, 256), (255, 383), (64, 64), (40, 30), (17, 301), (999, 100), (225, 224), (1, 7), (641, 479), (63, 500)]


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [64, 224, 97])
def test_pixels_match_open_clip(side: int, interpolation: str, resize_mode: str) -> None:
    transform = pytest.importorskip("open_clip.transform")
    ours = Preprocessing(side, MEAN, STD, interpolation, resize_mode, fill_color=30)
    theirs = transform.image_transform(
        side, False, MEAN, STD, resize_mode=resize_mode, interpolation=interpolation, fill_color=30
    )
    before_tensor = [step for step in theirs.transforms if type(step).__name__ not in ("MaybeToTensor", "Normalize")]
    assert len(before_tensor) == len(theirs.transforms) - 2
    for size in SIZES:
        expected = noise(*size)
        for step in before_tensor:
            expected = step(expected)
        pixels = ours.pixels(noise(*size))
        assert pixels.dtype == np.uint8 and pixels.shape == (side, side, 3)
        np.testing.assert_array_equal(pixels, np.asarray(expected), err_msg=str(size))
    batch = np.stack([ours.pixels(noise(*size)) for size in SIZES[:3]])
    wanted = np.stack([theirs(noise(*size)).numpy() for size in SIZES[:3]])
    normalised = ours.normalise(batch)
    assert normalised.dtype == np.float32 and normalised.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(normalised, wanted, atol=2e-6)


@pytest.mark.parametrize("size", [(3237, 3707), (3707, 3237), (1301, 2999), (1999, 1001)])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest"])
def test_a_reduced_picture_is_cropped_like_the_full_one(
    size: tuple[int, int], resize_mode: str, tmp_path: Path
) -> None:
    across, down = np.linspace(0, 60, size[0]), np.linspace(0, 60, size[1])
    waves = np.sin(across[None, :]) + np.sin(down[:, None] * 0.8)
    picture = Image.fromarray((waves * 60 + 128).astype(np.uint8)).convert("RGB")
    path = tmp_path / "waves.jpg"
    picture.save(path, quality=95)
    preprocessing = Preprocessing(224, MEAN, STD, resize_mode=resize_mode)
    exact = preprocessing.pixels(picture).astype(int)
    reduced = open_picture(path, shortest_side=448)
    assert max(reduced.image.size) < max(size) and reduced.whole == size
    for pixels in (
        decode_file(path, preprocessing, Limits()).pixels,
        preprocessing.pixels(*picture_and_size(path, 448)),
    ):
        assert np.abs(pixels.astype(int) - exact).mean() < 1.5
    # Using the reduced picture's size instead is never closer.
    assert np.abs(preprocessing.pixels(reduced.image).astype(int) - exact).mean() >= np.abs(pixels - exact).mean()


def test_the_aspect_ratio_is_that_of_the_full_picture() -> None:
    """A quarter of 3237 x 3707 is 810 x 927, which has another aspect ratio."""
    rows = np.arange(927, dtype=np.float64)[:, None].repeat(810, axis=1)
    reduced = Image.fromarray((rows % 256).astype(np.uint8)).convert("RGB")
    for whole in ((3237, 3707), (800, 1000), (810, 927)):
        height = int(224 * whole[1] / whole[0])
        top = round((height - 224) / 2)
        expected = reduced.resize((224, height), Image.Resampling.BICUBIC).crop((0, top, 224, top + 224))
        np.testing.assert_array_equal(Preprocessing(224, MEAN, STD).pixels(reduced, whole), np.asarray(expected))


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_strips_need_little_memory(resize_mode: str) -> None:
    for size in ((1, 300_000), (300_000, 2)):
        assert Preprocessing(224, MEAN, STD, resize_mode=resize_mode).pixels(Image.new("RGB", size)).shape[0] == 224


def test_an_empty_batch_and_invalid_settings() -> None:
    assert Preprocessing(8, MEAN, STD).normalise(np.empty((0, 8, 8, 3), np.uint8)).shape == (0, 3, 8, 8)
    for wrong in ({"interpolation": "cubic"}, {"resize_mode": "crop"}, {"size": 0}):
        with pytest.raises(ValueError):
            Preprocessing(**{"size": 8, "mean": MEAN, "std": STD} | wrong)


def test_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, clipkit.images.decode_pool, clipkit.images.contact_sheet, clipkit.images.fetching\n"
        "heavy = {'torch', 'torchvision', 'open_clip', 'diffusers', 'faiss', 'onnxruntime', 'rawpy', 'pillow_heif'}\n"
        "print(heavy & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(384, 256), (255, 383), (64, 64), (200, 640), (999, 100), (20_000, 20)])
def test_the_frame_says_which_part_of_the_picture_is_seen(size: tuple[int, int], resize_mode: str) -> None:
    """Colours that tell the place: red grows from left to right, green from top to bottom, blue is full."""
    across, down = (np.linspace(0, 255, side) for side in size)
    values = np.stack([np.tile(across, (size[1], 1)), np.tile(down[:, None], (1, size[0]))], axis=-1)
    image = Image.fromarray(np.dstack([values, np.full(values.shape[:2], 255)]).astype(np.uint8))
    model = Preprocessing(64, MEAN, STD, "bilinear", resize_mode)
    pixels, (left, top, right, bottom) = model.pixels(image), model.frame(size)
    y, x = np.mgrid[:64, :64]
    wanted = np.stack([left + (x + 0.5) / 64 * (right - left), top + (y + 0.5) / 64 * (bottom - top)], axis=-1)
    in_picture = pixels[y, x, 2] == 255
    # A picture's edge is filtered on one side only, which moves its colour by a fraction of a pixel.
    margin = 2 / np.array(size) + 3 / 255 + 0.3 * np.array([right - left, bottom - top]) / 64
    assert in_picture.any() and (in_picture.all() or resize_mode == "longest")
    assert (abs(pixels[y, x, :2] / 255 - wanted)[in_picture] <= margin).all()
    assert ((wanted[~in_picture] < 0.02) | (wanted[~in_picture] > 0.98)).any(axis=-1).all()
