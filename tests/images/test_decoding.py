from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from clipkit.errors import UnreadableImage
from clipkit.images.colour import BACKGROUND
from clipkit.images.decoding import open_picture
from clipkit.images.limits import Limits

from .make_files import SHARED, close_to, corners, dng, encoded, needs_shared

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # from upright to how a camera stores that orientation


def gradient(width: int, height: int) -> np.ndarray:
    return np.linspace(0, 1, width * height).reshape(height, width)


@needs_shared
@pytest.mark.parametrize(
    "path", sorted((SHARED / "formats").glob("*")) if SHARED.is_dir() else [], ids=lambda p: p.name
)
def test_every_sample_decodes(path: Path) -> None:
    picture = open_picture(path)
    assert picture.image.mode == "RGB" and picture.image.size == (picture.width, picture.height)
    assert min(picture.image.size) >= 100 and max(picture.image.size) <= 600
    assert np.asarray(picture.image).std() > 15, "a real picture is not one colour"
    small = open_picture(path, shortest_side=64)
    assert (small.width, small.height) == (picture.width, picture.height)
    assert 64 <= min(small.image.size) < 128
    assert open_picture(path.read_bytes()).image.tobytes() == picture.image.tobytes()


@needs_shared
def test_format_is_detected_from_content() -> None:
    assert open_picture(SHARED / "formats" / "duck.jp2").format == "JPEG"  # a JPEG with the wrong extension
    assert open_picture(SHARED / "formats" / "bee.heic").format == "HEIC"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("shortest_side", [None, 16])
def test_orientations_end_upright(orientation: int, format_name: str, shortest_side: int | None) -> None:
    upright = corners(96, 64)
    turn = TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(upright if turn is None else upright.transpose(turn), format_name, exif=exif.tobytes())
    picture = open_picture(stored, shortest_side=shortest_side)
    assert (picture.width, picture.height) == (96, 64)
    assert picture.image.size == ((96, 64) if shortest_side is None else (24, 16))
    assert close_to(picture.image, upright.resize(picture.image.size), 12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_orientations_end_upright(orientation: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    turn, upright = TURNS[orientation], corners(96, 64)
    heif = pillow_heif.from_pillow(upright if turn is None else upright.transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    heif.save(buffer, exif=exif.tobytes(), quality=90)
    picture = open_picture(buffer.getvalue())
    assert (picture.width, picture.height) == (96, 64)
    assert close_to(picture.image, upright, 12)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
def test_transparency_shows_the_background(mode: str) -> None:
    image = Image.new("RGBA", (40, 40), (255, 255, 255, 255))
    image.paste((255, 255, 255, 0), (0, 0, 20, 40))
    if mode == "RGBA":
        data = encoded(image, "PNG")
    elif mode == "LA":
        data = encoded(image.convert("LA"), "PNG")
    elif mode == "P":
        palette = Image.new("P", (40, 40), 1)
        palette.putpalette([10, 200, 30, 255, 255, 255])
        palette.paste(0, (0, 0, 20, 40))
        data = encoded(palette, "GIF", transparency=0)
    elif mode == "PA":
        palette = Image.new("P", (40, 40), 1)
        palette.putpalette([10, 200, 30, 255, 255, 255])
        palette.paste(0, (0, 0, 20, 40))
        data = encoded(palette, "PNG", transparency=b"\x00\xff")
    else:
        flat = Image.new(mode, (40, 40), "white")
        flat.paste("black", (0, 0, 20, 40))
        data = encoded(flat, "PNG", transparency=0 if mode == "L" else (0, 0, 0))
    picture = open_picture(data).image
    assert picture.getpixel((5, 20)) == BACKGROUND
    assert picture.getpixel((35, 20)) == (255, 255, 255)


@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(format_name: str, top: int) -> None:
    values = gradient(64, 48)
    picture = open_picture(encoded(Image.fromarray((values * top).astype(np.uint16)), format_name)).image
    assert close_to(picture, Image.fromarray((values * 255).astype(np.uint8)), 1.1)


@pytest.mark.parametrize("low, high", [(0, 1), (0, 255), (-1000, 3000)])
def test_floats_and_integers_use_their_range(low: int, high: int) -> None:
    values = gradient(64, 48)
    expected = Image.fromarray((values * 255).astype(np.uint8))
    stored = (low + values * (high - low)).astype(np.float32)
    assert close_to(open_picture(encoded(Image.fromarray(stored), "TIFF")).image, expected, 1.1)
    stored[0, 0] = np.nan
    assert np.asarray(open_picture(encoded(Image.fromarray(stored), "TIFF")).image).std() > 50
    if low < 0:
        stored = (low + values * (high - low)).astype(np.int32)
        assert close_to(open_picture(encoded(Image.fromarray(stored), "TIFF")).image, expected, 1.1)


def test_other_modes_keep_their_colours() -> None:
    upright = corners()
    assert close_to(open_picture(encoded(upright.convert("YCbCr"), "JPEG", quality=95)).image, upright, 8)
    assert close_to(open_picture(encoded(upright.convert("CMYK"), "TIFF")).image, upright, 1)
    # Pillow writes CMYK JPEG as Adobe does, inverted
    assert close_to(open_picture(encoded(upright.convert("CMYK"), "JPEG", quality=95)).image, upright, 8)
    assert close_to(open_picture(encoded(upright.quantize(8), "PNG")).image, upright, 1)
    black_and_white = upright.convert("1")
    assert close_to(open_picture(encoded(black_and_white, "PNG")).image, black_and_white, 0)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    colourful = Image.new("RGB", (32, 32), (180, 90, 60))
    lab = ImageCms.applyTransform(colourful, to_lab)
    assert close_to(open_picture(encoded(lab, "TIFF")).image, colourful, 3)


def test_wide_gamut_profiles_are_applied_and_invalid_ones_ignored() -> None:
    grey = Image.new("RGB", (16, 16), (180, 90, 60))
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert open_picture(encoded(grey, "PNG", icc_profile=linear)).image.getpixel((3, 3)) == (180, 90, 60)
    # An invented space: sRGB with red and blue primaries swapped, under another name.
    table = linear.replace(b"rXYZ", b"tmp.").replace(b"bXYZ", b"rXYZ").replace(b"tmp.", b"bXYZ")
    exchanged = table.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    picture = open_picture(encoded(grey, "PNG", icc_profile=exchanged)).image
    assert close_to(picture, Image.new("RGB", (16, 16), (60, 90, 180)), 3)
    for nonsense in (b"no profile", linear[:200], b"\0" * 128):
        assert open_picture(encoded(grey, "PNG", icc_profile=nonsense)).image.getpixel((3, 3)) == (180, 90, 60)


def test_first_frame_of_animations_and_pages() -> None:
    first, second = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
    for format_name in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"):
        data = encoded(first, format_name, save_all=True, append_images=[second])
        picture = open_picture(data)
        assert close_to(picture.image, first, 6), format_name
        assert picture.format == ("JPEG" if format_name == "MPO" else format_name)


@pytest.mark.parametrize("format_name", ["JPEG", "JPEG2000", "PNG"])
@pytest.mark.parametrize("size", [(1200, 800), (801, 1203), (4000, 300)])
def test_reduced_decoding_keeps_the_shorter_side(format_name: str, size: tuple[int, int]) -> None:
    image = corners(*size)
    data = encoded(image, format_name)
    for side in (64, 100, 299, 300, 301, 5000):
        picture = open_picture(data, shortest_side=side)
        assert (picture.width, picture.height) == size
        assert min(side, *size) <= min(picture.image.size)
        assert max(picture.image.size) <= max(size)
    assert min(open_picture(data, shortest_side=64).image.size) < 128
    small = open_picture(data, shortest_side=100).image
    assert close_to(small, image.resize(small.size), 6)


def test_raw_uses_a_large_enough_preview_else_develops(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    scene = corners(640, 480)
    marked = Image.new("RGB", (320, 240), (200, 100, 50))
    path = tmp_path / "scene.dng"
    path.write_bytes(dng(scene, preview=marked))
    by_preview = open_picture(path, shortest_side=200)
    assert by_preview.format == "DNG" and (by_preview.width, by_preview.height) == (640, 480)
    assert close_to(by_preview.image, Image.new("RGB", by_preview.image.size, (200, 100, 50)), 6)
    developed = open_picture(path, shortest_side=300)
    full = open_picture(path)
    assert min(developed.image.size) >= 300 and full.image.size == (640, 480)
    for picture in (developed, full):
        assert close_to(picture.image, scene.resize(picture.image.size), 25), "the sensor's data, not the preview"
        assert picture.metadata.camera == "Hand Made" and picture.metadata.taken_at == "2021-02-03T04:05:06"
    assert open_picture(path, shortest_side=240).image.size == (320, 240)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_raw_is_upright_by_preview_and_by_development(tmp_path: Path, orientation: int) -> None:
    pytest.importorskip("rawpy")
    turn, upright = TURNS[orientation], corners(640, 480)
    stored = upright if turn is None else upright.transpose(turn)
    path = tmp_path / "scene.dng"
    path.write_bytes(
        dng(stored, preview=stored.resize((stored.width // 2, stored.height // 2)), orientation=orientation)
    )
    for side in (100, 400):
        picture = open_picture(path, shortest_side=side)
        assert (picture.width, picture.height) == (640, 480)
        assert close_to(picture.image, upright.resize(picture.image.size), 25)


def test_raw_is_detected_from_content_despite_a_wrong_extension(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    scene = corners(640, 480)
    for name in ("scene.tif", "scene.jpg"):
        (tmp_path / name).write_bytes(dng(scene, preview=scene.resize((160, 120))))
        assert open_picture(tmp_path / name).image.size == (640, 480)
    assert open_picture(dng(scene)).format == "RAW"
    for format_name in ("JPEG", "TIFF", "PNG"):
        path = tmp_path / f"really_{format_name}.nef"
        path.write_bytes(encoded(scene, format_name))
        assert open_picture(path).format == format_name
    with pytest.raises(UnreadableImage) as caught:
        open_picture(dng(scene), limits=Limits(pixels=640 * 480 - 1))
    assert caught.value.kind == "too-large"


def test_raw_without_rawpy_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "scene.dng").write_bytes(dng(corners(64, 48), preview=corners(32, 24)))
    (tmp_path / "scene.tif").write_bytes(dng(corners(64, 48), preview=corners(32, 24)))
    (tmp_path / "plain.nef").write_bytes(encoded(corners(), "TIFF"))
    code = f"""if True:
        import sys
        from pathlib import Path
        sys.modules["rawpy"] = None
        from clipkit.errors import UnreadableImage
        from clipkit.images.decoding import open_picture
        for name in ("scene.dng", "scene.tif"):
            try:
                open_picture(Path({os.fspath(tmp_path)!r}) / name)
            except UnreadableImage as error:
                print(error.kind, error.reason)
        print(open_picture(Path({os.fspath(tmp_path)!r}) / "plain.nef").format)
    """
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == second and first.startswith("unsupported ") and 'pip install "clipkit[raw]"' in first
    assert third == "TIFF" and done.stderr == ""


def test_no_global_state_is_changed() -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters), set(Image.OPEN)
    open_picture(encoded(corners(), "JPEG"))
    try:
        Image.MAX_IMAGE_PIXELS = 10  # set by a program for its own `Image.open`
        assert open_picture(encoded(corners(), "PNG")).width == 96
        assert Image.MAX_IMAGE_PIXELS == 10
    finally:
        Image.MAX_IMAGE_PIXELS = before[0]
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters), set(Image.OPEN)) == before


def test_threads_decode_concurrently() -> None:
    data = [encoded(corners(300 + n, 200), name) for n, name in enumerate(("JPEG", "PNG", "WEBP", "TIFF"))]
    filters, wrong = list(warnings.filters), []

    def work(n: int) -> None:
        for _ in range(20):
            if open_picture(data[n], shortest_side=50).width != 300 + n:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and warnings.filters == filters


def test_limits_are_checked_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(corners(100, 100), "PNG"))
    assert open_picture(path, limits=Limits(pixels=10_000)).width == 100
    for limits in (Limits(pixels=9_999), Limits(bytes=50)):
        with pytest.raises(UnreadableImage) as caught:
            open_picture(path, limits=limits)
        assert caught.value.kind == "too-large" and caught.value.path == path
