from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipkit.errors import UnreadableImage
from clipkit.images.decoding import open_picture
from clipkit.images.discovery import walk
from clipkit.images.limits import Limits

from .make_files import SHARED, close_to, corners
from .missing_modules import refusal_without
from .test_declared_colour import SRGB, assert_patches, eight, profile, stored

# Written by libjxl's encoder: the four patches of the colour tests in Display P3, lossless, without an ICC profile.
DISPLAY_P3 = bytes.fromhex(
    "ff0a5f404026370208020100d8004b386998ca83f72928980223ca8dbb71e3aedb2e10040070f4e109bb777e49ad795bb13a5e7e4e010a"
    "a07233ca73ae3d3d917491bf09"
)


def coded(image: np.ndarray, **options: object) -> bytes:
    return pytest.importorskip("pylibjxl").encode(np.ascontiguousarray(image), **options)


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the shared cases are not here")
def test_shared_case() -> None:
    pytest.importorskip("pylibjxl")
    picture = open_picture(SHARED / "cases" / "j01.jxl")
    assert picture.format == "JXL" and (picture.width, picture.height) == (300, 200)
    assert [abs(a - b) <= 4 for a, b in zip(picture.image.getpixel((20, 20)), (200, 60, 50), strict=True)] == [True] * 3


@pytest.mark.parametrize("lossless", [True, False])
def test_colour_grey_and_alpha(lossless: bool) -> None:
    for size in ((96, 64), (64, 64), (301, 177), (256, 144)):
        values = np.asarray(corners(*size))
        picture = open_picture(coded(values, lossless=lossless), shortest_side=64)
        assert (picture.width, picture.height) == size
        assert close_to(picture.image, corners(*size).resize(picture.image.size), 6)
    clear = np.dstack([np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.uint8)])
    assert open_picture(coded(clear, lossless=lossless)).image.getpixel((9, 9)) == (128, 128, 128)


@pytest.mark.parametrize("lossless", [True, False])
def test_profiles_are_used(lossless: bool) -> None:
    light = np.asarray(eight(stored(SRGB, lambda light: light)))
    assert_patches(coded(light, lossless=lossless, distance=0.1, icc=profile(None, 1.0)), 6)


def test_spaces_without_a_profile_are_used() -> None:
    pytest.importorskip("pylibjxl")
    assert_patches(DISPLAY_P3)


def test_limits_are_checked_before_decoding_and_truncated_files_fail() -> None:
    data = coded(np.asarray(corners(200, 100)))
    with pytest.raises(UnreadableImage) as caught:
        open_picture(data, limits=Limits(pixels=19_999))
    assert caught.value.kind == "too-large"
    for length in (2, 3, 10, len(data) // 2):
        with pytest.raises(UnreadableImage) as caught:
            open_picture(data[:length])
        assert caught.value.kind in ("truncated", "unreadable", "unsupported")


def test_without_pylibjxl_the_message_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jxl"
    path.write_bytes(DISPLAY_P3)
    assert [found.path for found in walk([tmp_path])] == [path]
    refusal = refusal_without("pylibjxl", path)
    assert refusal.startswith("unsupported ") and 'pip install "clipkit[formats]"' in refusal
