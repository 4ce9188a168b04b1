"""TIFF files of every layout are decoded correctly or fail with a reason; never to a wrong picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from clipkit.errors import UnreadableImage
from clipkit.images.colour import BACKGROUND
from clipkit.images.decoding import open_picture
from clipkit.images.limits import Limits

from .make_files import SHARED, close_to, corners, dng, encoded
from .missing_modules import refusal_without

CASES = SHARED / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
GREYS = (0.9, 0.3, 0.6, 0.02)
COLOURS = ((0.9, 0.2, 0.1), (0.3, 0.8, 0.45), (0.6, 0.5, 0.95), (0.02, 0.4, 0.7))


def patches(colours: tuple, side: int = 24) -> np.ndarray:
    """Return four patches as fractions of full scale, (2 x side, 2 x side) or (..., 3)."""
    values = np.array(colours, np.float64)
    return values.reshape(2, 2, *values.shape[1:]).repeat(side, axis=0).repeat(side, axis=1)


def scaled(values: np.ndarray, kind: str) -> np.ndarray:
    dtype = np.dtype(kind)
    return values.astype(dtype) if dtype.kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.ascontiguousarray(values), metadata=None, **options)
    return buffer.getvalue()


def found(source: bytes | Path, **options: int) -> np.ndarray:
    """Return the centres of the four quarters of the decoded picture, (4, 3)."""
    image = np.asarray(open_picture(source, **options).image, np.int16)
    height, width = image.shape[:2]
    return np.array([image[y, x] for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)])


def assert_colours(source: bytes | Path, colours: tuple, tolerance: float = 2, **options: int) -> None:
    expected = np.array(colours) * 255
    difference = np.abs(found(source, **options) - (expected[:, None] if expected.ndim == 1 else expected))
    assert difference.max() <= tolerance, found(source, **options)


@needs_cases
@pytest.mark.parametrize(
    "name, greys",
    [
        ("k20_gray16.tif", (234, 78, 156, 3)),
        ("k21_gray16_minwhite.tif", (234, 78, 156, 3)),
        ("k23_float01.tif", (229, 77, 153, 5)),
        ("k24_float_105.tif", (229, 77, 153, 5)),
    ],
)
def test_shared_greys(name: str, greys: tuple[int, ...]) -> None:
    assert_colours(CASES / name, tuple(grey / 255 for grey in greys), 4, shortest_side=64)


@needs_cases
@pytest.mark.parametrize("name", ["k25_float_rgb.tif", "k29_rgb16_planar.tif", "k30_thumb_first.tif", "k54_cmyka.tif"])
def test_shared_colours(name: str) -> None:
    four = [(200, 60, 50), (60, 190, 70), (50, 70, 190), (128, 128, 128)]
    assert np.abs(found(CASES / name, shortest_side=64) - four).max() <= 4
    if name.startswith("k30"):
        picture = open_picture(CASES / name, shortest_side=64)
        assert (picture.width, picture.height) == (400, 400)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_grey_and_colour_of_every_type(kind: str, byteorder: str, tile: tuple[int, int] | None) -> None:
    options = {"byteorder": byteorder, "tile": tile}
    grey, colour = scaled(patches(GREYS), kind), scaled(patches(COLOURS), kind)
    assert_colours(tiff(grey, photometric="minisblack", **options), GREYS)
    white = 1 - grey if grey.dtype.kind == "f" else np.iinfo(kind).max - grey
    assert_colours(tiff(white, photometric="miniswhite", **options), GREYS)
    assert_colours(tiff(colour, photometric="rgb", **options), COLOURS)
    planes = np.moveaxis(colour, 2, 0)
    assert_colours(tiff(planes, photometric="rgb", planarconfig="separate", **options), COLOURS)
    for alpha in ("unassalpha", "assocalpha"):
        opaque = np.dstack([colour, scaled(np.ones(grey.shape), kind)])
        assert_colours(tiff(opaque, photometric="rgb", extrasamples=[alpha], **options), COLOURS)
        planes = np.moveaxis(opaque, 2, 0)
        separate = tiff(planes, photometric="rgb", planarconfig="separate", extrasamples=[alpha], **options)
        assert_colours(separate, COLOURS)
    more = np.dstack([colour, scaled(np.full(grey.shape, 0.3), kind)])  # such as infrared: not alpha
    assert_colours(tiff(more, photometric="rgb", extrasamples=["unspecified"], **options), COLOURS)
    opaque = np.dstack([white, scaled(np.ones(grey.shape), kind)])
    assert_colours(tiff(opaque, photometric="miniswhite", extrasamples=["unassalpha"], **options), GREYS)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd"])
@pytest.mark.parametrize("predictor", [False, True])
def test_compression(compression: str, predictor: bool) -> None:
    pytest.importorskip("imagecodecs")
    predictor = predictor and compression != "packbits"
    for kind in ("u1", "u2", "u4", "f4"):
        options = {"compression": compression, "predictor": predictor}
        grey, planes = scaled(patches(GREYS), kind), np.moveaxis(scaled(patches(COLOURS), kind), 2, 0)
        assert_colours(tiff(grey, photometric="minisblack", **options), GREYS)
        assert_colours(tiff(planes, photometric="rgb", planarconfig="separate", **options), COLOURS)


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_inks(kind: str, planar: str) -> None:
    inks = np.dstack([1 - patches(COLOURS), np.zeros((48, 48))])
    with_alpha = np.dstack([inks, np.ones((48, 48))])
    clear = np.dstack([inks, np.zeros((48, 48))])
    for values, expected in ((inks, COLOURS), (with_alpha, COLOURS), (clear, (np.array(BACKGROUND) / 255,) * 4)):
        stored = scaled(values, kind)
        stored = np.moveaxis(stored, 2, 0) if planar == "separate" else stored
        extra = {} if values.shape[2] == 4 else {"extrasamples": ["unassalpha"]}
        assert_colours(tiff(stored, photometric="separated", planarconfig=planar, **extra), tuple(expected), 3)


def test_lab_of_sixteen_bits() -> None:
    # CIE L*a*b* under D50 by the formulas of CIE 15, from sRGB by its matrix adapted to D50
    to_xyz = np.array([[0.436075, 0.385065, 0.143080], [0.222505, 0.716879, 0.060617], [0.013932, 0.097105, 0.714173]])
    four = np.array([(200, 60, 50), (60, 190, 70), (50, 70, 190), (128, 128, 128)])
    light = np.where(four / 255 <= 0.04045, four / 255 / 12.92, ((four / 255 + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(light @ to_xyz.T / [0.96422, 1, 0.82521]).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    deep = np.round(lab * [65535 / 100, 256, 256]).astype(np.int32).astype(np.uint16)
    flat = np.round(lab * [255 / 100, 1, 1]).astype(np.int32).astype(np.uint8)
    for stored in (deep, flat):  # both are rounded to 8 bits, which is coarse in saturated blue
        assert np.abs(found(tiff(patches(stored).astype(stored.dtype), photometric="cielab")) - four).max() <= 12, (
            stored.dtype
        )


def test_hot_pixels_and_missing_data_do_not_darken_the_rest() -> None:
    for odd in (1.05, 7.0, 1e6, np.inf, np.nan, -1.0, 3.4e38, -3.4e38):
        values = patches(GREYS).astype(np.float32)
        values[0, 0] = odd
        assert_colours(tiff(values, photometric="minisblack"), GREYS)
        colour = patches(COLOURS).astype(np.float32)
        colour[0, 0] = odd
        assert_colours(tiff(colour, photometric="rgb"), COLOURS)
    height = patches((1200, 400, 800, 0)).astype(np.float32)
    height[:, :5] = -9999
    image = open_picture(tiff(height, photometric="minisblack", extratags=[(42113, "s", 0, "-9999", True)])).image
    levels = [image.getpixel((x, y))[0] for x, y in ((20, 10), (40, 10), (20, 40))]
    assert levels == [255, 85, 170] and image.getpixel((0, 0)) == (0, 0, 0)


def test_palettes_keep_their_colours_at_four_eight_and_sixteen_bits() -> None:
    index = patches((0, 1, 2, 3)).astype(np.uint8)
    for depth, kind in ((8, "u1"), (16, "u2")):
        table = np.zeros((3, 1 << depth), np.uint16)
        table[:, :4] = np.round(np.array(COLOURS).T * 65535)
        assert_colours(tiff(index.astype(kind), photometric="palette", colormap=table), COLOURS)
    picture = corners(48, 48)
    assert close_to(open_picture(encoded(picture.quantize(8), "TIFF")).image, picture, 1)


def pages(*pictures: tuple[np.ndarray, dict[str, object]], **options: object) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as writer:
        for values, more in pictures:
            writer.write(values, metadata=None, **({"photometric": "rgb"} | more))
    return buffer.getvalue()


SMALL, LARGE = np.full((30, 40, 3), 255, np.uint8), np.asarray(corners(400, 300))


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
def test_leading_thumbnails_are_skipped(options: dict[str, object]) -> None:
    flagged: dict[str, object] = {"subfiletype": 1}
    small_pages = (SMALL, flagged), (LARGE, {})
    deep = (LARGE.astype(np.uint16) * 257, {"planarconfig": "contig"})
    planes = (np.moveaxis(LARGE, 2, 0).astype(np.uint16) * 257, {"planarconfig": "separate"})
    for made in (
        pages(*small_pages, **options),
        pages((SMALL, {}), (LARGE, {}), **options),  # not marked: recognised by size and shape
        pages((SMALL, flagged | {"subifds": 1}), (LARGE, {}), **options),
        pages((SMALL, flagged | {"subifds": 2}), (SMALL, flagged), (LARGE, {}), **options),
        pages((SMALL, flagged), deep, **options),
        pages((SMALL, flagged), planes, **options),
        pages((SMALL, flagged), (LARGE, {"compression": "zlib"}), **options),
        pages((SMALL, flagged | {"subifds": 1}), planes, **options),
    ):
        picture = open_picture(made, shortest_side=64)
        assert (picture.width, picture.height) == (400, 300)
        assert close_to(picture.image, corners(400, 300).resize(picture.image.size), 2)


def test_first_pages_that_are_not_thumbnails_are_kept() -> None:
    other = np.full((300, 400, 3), 7, np.uint8)
    for made in (
        pages((LARGE, {}), (other, {})),
        pages((LARGE, {"subifds": 1}), (SMALL, {"subfiletype": 1})),
        pages((SMALL[:, :30], {}), (other, {})),  # small, with another shape
        pages((SMALL, {"subfiletype": 2}), (other, {"subfiletype": 2})),  # tagged as pages of a document
        pages((SMALL, {"subfiletype": 1})),
    ):
        image = open_picture(made).image
        assert image.getpixel((image.width - 1, image.height - 1)) == (255, 255, 255)


def test_orientation_and_camera_come_from_the_thumbnail() -> None:
    tags = [(271, "s", 0, "Acme", True), (272, "s", 0, "Cam", True), (274, "H", 1, 6, True)]
    stored = np.asarray(corners(400, 300).transpose(Image.Transpose.ROTATE_90))
    small = np.full((40, 30, 3), 255, np.uint8)
    for subifds in (0, 1):
        first = {"subfiletype": 1, "extratags": tags} | ({"subifds": 1} if subifds else {})
        picture = open_picture(pages((small, first), (stored, {})))
        assert (picture.width, picture.height) == (400, 300) and close_to(picture.image, corners(400, 300), 2)
        assert picture.metadata.camera == "Acme Cam"


def test_a_dng_whose_first_directory_is_a_thumbnail_yields_the_sensor_picture() -> None:
    pytest.importorskip("rawpy")
    picture = open_picture(dng(corners(640, 480), preview=Image.new("RGB", (16, 12), "white")), shortest_side=100)
    assert (picture.width, picture.height) == (640, 480)
    assert close_to(picture.image, corners(*picture.image.size), 25)


def refused(data: bytes, **options: object) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        open_picture(data, **options)
    return caught.value


def test_other_layouts_are_reported_as_unsupported() -> None:
    complex_values = patches(GREYS).astype(np.complex64)
    five_inks = np.dstack([patches(COLOURS), patches(COLOURS)[:, :, :2]]) * 255
    for data in (
        tiff(complex_values, photometric="minisblack"),
        tiff(five_inks.astype(np.uint8), photometric="separated", extratags=[(332, "H", 1, 2, True)]),
        tiff(patches(GREYS), photometric="minisblack", bigtiff=True, byteorder=">"),
    ):
        error = refused(data)
        assert error.kind == "unsupported" and "damaged" not in error.reason and "TIFF" in error.reason


def test_cut_off_deep_files_are_reported_as_truncated() -> None:
    data = tiff(np.moveaxis(scaled(patches(COLOURS), "u2"), 2, 0), photometric="rgb", planarconfig="separate")
    for part in (0.3, 0.5, 0.8):
        assert refused(data[: int(len(data) * part)]).kind == "truncated"
    assert refused(data, limits=Limits(pixels=48 * 48 - 1)).kind == "too-large"


def test_without_imagecodecs_the_message_names_it(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(scaled(patches(GREYS), "u4"), photometric="minisblack", compression="lzw"))
    refusal = refusal_without("imagecodecs", path)
    assert refusal.startswith("unsupported ") and 'pip install "clipkit[formats]"' in refusal
