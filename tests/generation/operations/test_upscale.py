"""Enlarging: the real class of Swin2SR with random weights, the bundled network, Lanczos; at the commands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.hub_server import Hub
from PIL import Image
from swin2sr_checkpoint import HEADS, put_into_cache, write_network

from clipkit import Library
from clipkit.errors import BadQuery, DecoderNotAvailable
from clipkit.generation import upscalers
from clipkit.generation.tiling import enlarge_in_tiles, spans
from clipkit.generation.upscalers import LANCZOS, choose_upscaler, resolve_upscaler
from clipkit.generation.upscaling import MAX_SIDE, enlarge, enlarged_size, load_upscaler, sizes
from clipkit.marks.reading import verify
from clipkit.marks.source_type import COMPOSITE, ENHANCED, TRAINED
from clipkit.samples.painting import paint
from clipkit.samples.photos import sample_scenes

TINY = resolve_upscaler("tiny")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    return {kind: write_network(folder / kind, kind) for kind in HEADS}


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return paint(sample_scenes(3)[2], 64)


@pytest.fixture
def photo(tmp_path: Path, scene: Image.Image) -> Path:
    """Return a picture of 40 x 24 pixels, turned by its EXIF orientation to 24 x 40."""
    exif = Image.Exif()
    exif[0x0112] = 6
    scene.resize((40, 24)).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    return tmp_path / "photo.jpg"


def pixels(image: Image.Image | Path) -> np.ndarray:
    if isinstance(image, Path):
        with Image.open(image) as opened:
            return np.asarray(opened.convert("RGB")).astype(int)
    return np.asarray(image).astype(int)


# --- tiles ---


class Nearest:
    """Repeats every pixel, and adds what it is told at the edge of each tile, as a network's edges differ."""

    factor, multiple = 2, 4

    def __init__(self, tile: int, margin: int, feather: int, wrong: int = 0) -> None:
        self.tile, self.margin, self.feather, self.wrong = tile, margin, feather, wrong
        self.shapes: list[tuple[int, ...]] = []

    def enlarge(self, pixels: np.ndarray) -> np.ndarray:
        self.shapes.append(pixels.shape)
        return pixels.repeat(2, 0).repeat(2, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.sampled_from([(32, 4, 4), (48, 8, 8), (64, 4, 16), (40, 0, 4)]))
def test_tiles_cover_every_pixel_with_context_and_fade_once(length, geometry):
    upscaler = Nearest(*geometry)
    tiles = spans(length, upscaler)
    assert (tiles[0].begin, tiles[0].fade, tiles[-1].end, tiles[-1].stop) == (0, 0, length, length)
    for tile in tiles:
        assert 0 < tile.stop - tile.start <= upscaler.tile and tile.start % upscaler.multiple == 0
    for before, after in zip(tiles, tiles[1:], strict=False):
        assert after.begin + after.fade == before.end, "the one fades into the other"
        assert after.begin - after.start >= upscaler.margin and before.stop - before.end >= upscaler.margin
        assert after.begin > before.begin + before.fade or before.fade == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(1.05, 2))
def test_tiles_are_reduced_as_the_whole_is(height, width, factor):
    rng = np.random.default_rng(0)
    before = rng.integers(0, 255, (height, width, 3), np.uint8)
    size = max(width, round(width * factor)), max(height, round(height * factor))
    upscaler, done = Nearest(32, 4, 4), []
    made = enlarge_in_tiles(before, size, upscaler, lambda: done.append(1))
    whole = Image.fromarray(before.repeat(2, 0).repeat(2, 1))
    whole = whole.resize((size[0], whole.height), Image.Resampling.LANCZOS).resize(size, Image.Resampling.LANCZOS)
    assert made.shape == (size[1], size[0], 3)
    # Rounded once by the resampling, and once by each fade.
    assert np.abs(made.astype(int) - pixels(whole)).max() <= 2
    assert len(done) == len(upscaler.shapes) and max(map(max, upscaler.shapes)) <= 32


def test_a_seam_is_a_gradual_change_from_one_tile_to_the_next():
    """Tiles that differ in brightness: no neighbouring pixels differ by more than the feather's slope."""

    class Brighter(Nearest):
        def enlarge(self, pixels: np.ndarray) -> np.ndarray:
            return super().enlarge(pixels) + np.uint8(10 * len(self.shapes))

    made = enlarge_in_tiles(np.zeros((20, 120, 3), np.uint8), (240, 40), Brighter(48, 4, 12), lambda: None)
    steps = np.diff(made[20, :, 0].astype(int))
    assert steps.max() == 1 and steps.min() == 0 and made[20, -1, 0] - made[20, 0, 0] >= 20


@pytest.mark.parametrize("kind", ["pixelshuffle-x2", "realworld-x4"])
def test_tiles_of_swin2sr_agree_with_the_whole_picture(networks, scene, kind):
    network = load_upscaler(resolve_upscaler(str(networks[kind])), "cpu")
    whole = network.enlarge(np.asarray(scene)).astype(int)
    network.tile, network.margin, network.feather = 48, 8, 8
    try:
        size = 64 * network.factor, 64 * network.factor
        tiled = enlarge_in_tiles(np.asarray(scene), size, network, lambda: None).astype(int)
    finally:
        del network.tile, network.margin, network.feather
    assert len(spans(64, network)) == 1 and whole.std() > 10
    assert np.abs(tiled - whole).mean() < 0.2 and np.percentile(np.abs(tiled - whole), 99) <= 3


def test_tiles_of_the_bundled_network_are_the_whole_picture(scene):
    network = load_upscaler(TINY, "cpu")
    before = np.asarray(scene.resize((100, 70)))
    whole = network.enlarge(before).astype(int)
    network.tile = 80
    try:
        tiled = enlarge_in_tiles(before, (400, 280), network, lambda: None).astype(int)
    finally:
        del network.tile
    assert np.abs(tiled - whole).max() <= 1


# --- networks ---


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_of_swin2sr_enlarges_any_size(networks, scene, kind):
    entry = resolve_upscaler(str(networks[kind]))
    assert entry.factor == HEADS[kind][1]
    network = load_upscaler(entry, "cpu")
    for size in ((9, 16), (1, 3)):
        made = network.enlarge(np.asarray(scene.resize(size)))
        assert made.shape == (size[1] * entry.factor, size[0] * entry.factor, 3) and made.dtype == np.uint8


def test_half_precision_agrees_and_falls_back_where_it_overflows(networks, scene):
    load_upscaler.cache_clear()
    network = load_upscaler(resolve_upscaler(str(networks["lightweight-x2"])), "cpu")
    before = np.asarray(scene.resize((16, 16)))
    single = network.enlarge(before).astype(int)
    network.model.half()
    assert np.abs(network.enlarge(before) - single).max() <= 3 and network.model.dtype == torch.float16
    with torch.no_grad():  # values of the last layer beyond 65504, and back again
        network.model.swin2sr.img_range = 1e-6
        network.model.upsample.conv.weight.mul_(1e3)
        network.model.upsample.conv.bias.fill_(6e4).mul_(1)
    made = network.enlarge(before)
    assert network.model.dtype == torch.float32 and made.max() == 255
    load_upscaler.cache_clear()


def test_a_network_without_its_weights_is_refused(networks, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "torn"
    folder.mkdir()
    source = networks["pixelshuffle-x2"]
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = load_file(source / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "upsample" not in name}, folder / "model.safetensors")
    with pytest.raises(DecoderNotAvailable, match="lacks weights"):
        load_upscaler(resolve_upscaler(str(folder)), "cpu")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DecoderNotAvailable, match="Swin2SR"):
        resolve_upscaler(str(folder))


def test_the_bundled_network_is_nearer_to_the_truth_than_lanczos():
    true = [paint(scene, 256) for scene in sample_scenes(4)]

    def error(entry) -> float:
        made = [enlarge(picture.reduce(4), (256, 256), entry, device="cpu") for picture in true]
        return float(np.mean([(pixels(a) - pixels(b)) ** 2 for a, b in zip(made, true, strict=True)]))

    assert error(TINY) < 0.9 * error(LANCZOS)


# --- sizes and choice ---


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 20_000))
def test_sizes_keep_the_shape_or_are_refused(width, height, to):
    try:
        size = enlarged_size((width, height), to, TINY)
    except BadQuery:
        longer = max(width, height)
        assert to <= longer or to > 16 * longer or to > MAX_SIDE or to**2 * min(width, height) / longer > 2.9e8
        return
    assert max(size) == to and abs(size[0] * height - size[1] * width) <= max(width, height)
    path = sizes((width, height), size, 4)
    assert path[0] == (width, height) and path[-1] == size and len(path) <= 3
    assert all(b <= 4 * a and d <= 4 * c for (a, c), (b, d) in zip(path, path[1:], strict=False))


def test_networks_are_applied_again_where_one_time_is_too_little(networks, scene):
    entry, reported = resolve_upscaler(str(networks["lightweight-x2"])), []
    made = enlarge(scene.resize((12, 8)), (30, 20), entry, device="cpu", progress=reported.append)
    network = load_upscaler(entry, "cpu")
    twice = Image.fromarray(network.enlarge(network.enlarge(np.asarray(scene.resize((12, 8))))))
    assert np.abs(pixels(made) - pixels(twice.resize((30, 20), Image.Resampling.LANCZOS))).max() <= 30
    assert [(p.done, p.total) for p in reported if p.total] == [(1, 2), (2, 2)]


def test_the_upscaler_that_fits_is_chosen(tmp_path, monkeypatch):
    """Lanczos never by itself; of those on disk the one whose factor suffices."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert choose_upscaler(None, drawn=True).id == "tiny"
    for named in (None, "swin2sr-x4"):
        with pytest.raises(DecoderNotAvailable, match="decoders pull swin2sr"):
            choose_upscaler(named, drawn=False)
    two, four = upscalers.published()
    put_into_cache(tmp_path, two, "lightweight-x2")
    assert choose_upscaler(None, drawn=False, enlargement=8).id == two.id
    put_into_cache(tmp_path, four, "realworld-x4")
    chosen = [choose_upscaler(None, drawn=False, enlargement=factor).id for factor in (1.5, 2, 2.1, 9, None)]
    assert chosen == [two.id, two.id, four.id, four.id, four.id]
    assert choose_upscaler("lanczos", drawn=False) is LANCZOS


# --- the command ---


def test_a_photograph_from_the_hubs_cache_is_enlarged_and_marked_as_edited(clipkit, tmp_path, photo, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    put_into_cache(tmp_path / "hub", upscalers.published()[0], "pixelshuffle-x2")
    before = photo.read_bytes()
    output = clipkit("upscale", photo, "-o", tmp_path / "large.webp")
    assert output.code == 0 and output.out.strip() == str(tmp_path / "large.webp"), output.err
    assert pixels(tmp_path / "large.webp").shape == (80, 48, 3), "all of it, upright"
    marks = verify(tmp_path / "large.webp")
    assert marks.edited and marks.watermark.found and marks.digital_source_types == (COMPOSITE,)
    assert marks.provenance.operation == "upscale" and marks.provenance.model == "swin2sr-x2"
    assert marks.provenance.parent_name == "photo.jpg" and marks.provenance.region == "0,0,48,80"
    assert clipkit("verify", tmp_path / "large.webp").out.startswith("AI-edited")
    assert photo.read_bytes() == before
    again = clipkit("upscale", photo, "--to", "70", "--label", "-o", tmp_path / "b.png")
    assert again.code == 0 and pixels(tmp_path / "b.png").shape == (70, 42, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_lanczos_of_a_photograph_says_nothing_of_ai(clipkit, tmp_path, photo, suffix):
    path = tmp_path / f"large{suffix}"
    output = clipkit("upscale", photo, "--to", "96", "--upscaler", "lanczos", "-o", path)
    assert output.code == 0 and not output.err, output.err
    marks = verify(path)
    assert not marks.generated and not marks.edited and marks.digital_source_types == (ENHANCED,)
    assert marks.provenance.parent_name == "photo.jpg" and marks.provenance.model == ""
    assert not marks.watermark.found and b"AISystem" not in path.read_bytes()
    assert clipkit("verify", path).code == 1
    if suffix == ".png":
        with Image.open(photo) as image:
            upright = image.transpose(Image.Transpose.ROTATE_270)
            assert np.abs(pixels(path) - pixels(upright.resize((58, 96), Image.Resampling.LANCZOS))).max() <= 8


def test_lanczos_is_resized_in_a_manifest(tmp_path, photo):
    pytest.importorskip("c2pa", reason="the C2PA library is not installed: pip install 'clipkit[c2pa]'")
    from marks.certificates import write_certificate

    from clipkit.generation.operations.upscale import upscale

    certificate = write_certificate(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPKIT_C2PA_CERT", str(certificate.chain))
        patch.setenv("CLIPKIT_C2PA_KEY", str(certificate.key))
        upscale(photo, to=96, upscaler="lanczos", output=tmp_path / "a.png")
        upscale(photo, to=96, upscaler="tiny", output=tmp_path / "b.png")
    for name, action, source_type in (("a", "c2pa.resized", ENHANCED), ("b", "c2pa.edited", COMPOSITE)):
        marks = verify(tmp_path / f"{name}.png")
        assert marks.credentials.state == "Valid" and marks.credentials.actions == ("c2pa.opened", action)
        assert marks.credentials.source_types == (source_type,) and marks.edited == (name == "b")


@pytest.mark.parametrize(
    "wrong, reason",
    [
        (("PHOTO", "--to", "40", "--upscaler", "tiny"), "already|would not enlarge"),
        (("PHOTO", "--to", "641", "--upscaler", "tiny"), "640 pixels at most"),
        (("PHOTO", "--to", "5"), "range"),
        (("PHOTO", "--to", "80"), "decoders pull swin2sr-x2"),
        (("PHOTO", "--upscaler", "swin2sr-x4"), "decoders pull swin2sr-x4"),
        (("PHOTO", "--upscaler", "bicubic"), "swin2sr-x2, swin2sr-x4, tiny, lanczos"),
        (("PHOTO", "--upscaler", "tiny", "-o", "PHOTO"), "never overwritten"),
        (("PHOTO", "--upscaler", "tiny", "-o", "a.gif"), "a.gif"),
        (("PHOTO", "--upscaler", "lanczos", "--label"), "--label"),
        (("absent.jpg", "--upscaler", "tiny"), "absent.jpg"),
        (("12", "--upscaler", "tiny"), "no library"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(clipkit, tmp_path, photo, monkeypatch, wrong, reason):
    monkeypatch.chdir(tmp_path)
    arguments = [photo if word == "PHOTO" else word for word in wrong]
    arguments += [] if "-o" in arguments else ["-o", tmp_path / "out.png"]
    before = sorted(tmp_path.rglob("*.*")), photo.read_bytes()
    output = clipkit("upscale", *arguments)
    assert output.code == 2 and output.err.count("\n") == 1
    assert any(part in output.err for part in reason.split("|")), output.err
    assert (sorted(tmp_path.rglob("*.*")), photo.read_bytes()) == before


def test_without_a_library_a_file_is_needed(clipkit, photo):
    output = clipkit("upscale", photo, "--upscaler", "tiny")
    assert output.code == 2 and output.err.count("\n") == 1


# --- pulling ---


def test_an_upscaler_is_pulled_at_its_commit(clipkit, tmp_path, monkeypatch, networks, photo):
    import huggingface_hub.constants

    from clipkit.models.hub import cache

    entry = upscalers.published()[1]
    files = {path.name: path for path in networks["realworld-x4"].iterdir()} | {"pytorch_model.bin": b"a pickle"}
    hub = Hub({entry.repository: files})
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # The hub of the tests has one commit.
    monkeypatch.setattr("models.hub_server.COMMIT", entry.revision)
    try:
        assert not json.loads(clipkit("decoders", "list", "--json").out)[-1]["on_disk"]
        pulled = clipkit("decoders", "pull", entry.id)
        assert pulled.code == 0 and "48.3 MB" in pulled.err, pulled.err
        asked = [path for _, path, _ in hub.requests]
        assert f"/api/models/{entry.repository}/revision/{entry.revision}" in asked
        assert not hub.fetched("pytorch_model") and cache.snapshot(entry.repository) is None
        row = json.loads(clipkit("decoders", "list", "--json").out)[-1]
        assert row["on_disk"] and (row["kind"], row["id"], row["licence"]) == ("upscaler", entry.id, "Apache-2.0")
        assert "* swin2sr-x4" in clipkit("decoders", "list").out
        before = len(hub.requests)
        assert "nothing to download" in clipkit("decoders", "pull", entry.id).out
        made = clipkit("upscale", photo, "-o", tmp_path / "a.png")
        assert made.code == 0 and pixels(tmp_path / "a.png").shape == (160, 96, 3), made.err
        assert len(hub.requests) == before
    finally:
        hub.close()


def test_without_a_network_pulling_stops_in_one_line(clipkit):
    output = clipkit("decoders", "pull", "swin2sr-x2")
    assert output.code == 2 and "HF_HUB_OFFLINE" in output.err and output.err.count("\n") == 1


# --- in a library, and the option of the commands that generate ---


class TestInALibrary:
    """With the bundled model."""

    @pytest.fixture(scope="class")
    def library(self, scene_folder: Path, tmp_path_factory: pytest.TempPathFactory):
        with Library.create(tmp_path_factory.mktemp("upscaling") / "library", model="tiny") as library:
            library.index([scene_folder / "2023"])
            yield library

    def test_every_picture_is_recorded_and_made_again_by_its_command(self, library, clipkit):
        hit = library.search("a dog", k=1).hits[0]
        (generated,) = library.generate("a dog", seed=3, steps=2, upscale=320)
        assert generated.parameters["upscale"] == 320 and generated.parameters["upscaler"] == "tiny"
        made = [
            generated,
            library.upscale(hit.id),
            library.upscale(f"generated:{generated.id}", to=400, label=True),
            library.upscale(hit.path, to=200, upscaler="lanczos"),
        ]
        sides = [320, 384, 400, 200]
        types = [(TRAINED,), (COMPOSITE,), (TRAINED,), (ENHANCED,)]
        recorded = {picture.id: picture for picture in library.generated()}
        for picture, side, source_types in zip(made, sides, types, strict=True):
            assert recorded[picture.id] == picture
            assert pixels(picture.path).shape == (side, side, 3)
            marks = verify(picture.path)
            assert marks.digital_source_types == source_types and marks.edited == picture.edited
            assert marks.watermark.found == marks.generated == (source_types != (ENHANCED,))
            before = picture.path.read_bytes()
            output = clipkit(*shlex.split(library.command_of(picture))[1:])
            assert output.code == 0 and Path(output.out.strip()).read_bytes() == before, output.err
        assert made[1].parents == (str(hit.path),) and made[2].parents == (str(generated.path),)
        assert [picture.decoder for picture in made] == ["tiny", "tiny", "tiny", "lanczos"]

    def test_a_picture_in_memory_is_enlarged(self, library):
        made = library.upscale(Image.new("RGB", (30, 20), "blue"))
        assert pixels(made.path).shape == (80, 120, 3) and library.command_of(made) is None

    def test_every_operation_takes_it(self, library, clipkit, tmp_path):
        hit = library.search("a dog", k=1).hits[0]
        common = {"steps": 2, "seed": 1, "upscale": 300, "upscaler": "lanczos"}
        made = [
            *library.vary(hit.id, 1, **common),
            *library.restyle(hit.id, "a dog", "a cat", **common),
            *library.edit(hit.id, "a cat", box=(10, 10, 50, 50), **common),
            *library.extend(hit.id, right=20, **common),
        ]
        blend = library.blend([hit.id, "a violin"], 2, denoising_steps=2, **{k: common[k] for k in list(common)[1:]})
        for picture in (*made, *blend.pictures):
            assert max(pixels(picture.path).shape) == 300
            command = library.command_of(picture)
            assert "--upscale 300 --upscaler lanczos" in command
        assert pixels(blend.strip.path).shape == (300, 600, 3)
        edit = made[2]
        assert edit.edited and verify(edit.path).edited and verify(edit.path).provenance.region == "0,0,300,300"
        before = edit.path.read_bytes()
        output = clipkit(*shlex.split(library.command_of(edit))[1:])
        assert "no pixel" in output.err and Path(output.out.strip()).read_bytes() == before

    def test_what_cannot_be_done_is_refused_before_anything_is_made(self, library, kandinsky):
        before = len(library.generated())
        with pytest.raises(BadQuery, match="would not enlarge"):
            library.generate("a dog", upscale=256)
        with pytest.raises(BadQuery, match="at most"):
            library.generate("a dog", upscale=16_000)
        with pytest.raises(BadQuery, match="--upscale"):
            library.generate("a dog", upscaler="lanczos")
        with pytest.raises(DecoderNotAvailable, match="decoders pull"):
            library.generate("a dog", upscale=64, decoder=str(kandinsky))
        hit = library.search("a dog", k=1).hits[0]
        with pytest.raises(BadQuery, match="would not enlarge"):
            library.edit(hit.id, "a cat", box=(10, 10, 50, 50), upscale=90)
        assert len(library.generated()) == before
