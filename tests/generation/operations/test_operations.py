"""Variations, blends and text diffs with every family of decoders, at the commands."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import Library, Query
from clipkit.errors import BadQuery, DecoderNotAvailable
from clipkit.generation.operations import restyle as restyle_module
from clipkit.generation.operations.blend import STRIP_WIDTH, side_by_side
from clipkit.marks.reading import verify
from clipkit.searching.query import Words

FAMILIES = ("kandinsky", "adapter_15", "adapter_xl", "unclip")
WITH_LAYOUT, WITH_PRIOR = FAMILIES[:3], FAMILIES[:1]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two pictures that random towers tell apart, neither of them square."""
    paths = [tmp_path / "red.png", tmp_path / "noise.png"]
    Image.linear_gradient("L").resize((60, 40)).convert("RGB").save(paths[0])
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(paths[1])
    return paths


@pytest.fixture
def make(clipkit, tmp_path):
    """Return a function that runs a command, and returns the bytes of the file that it wrote."""

    def run(*arguments) -> bytes:
        path = tmp_path / "out.png"
        output = clipkit(*arguments, "--seed", "3", "-o", path)
        assert output.code == 0, output.err
        with Image.open(path) as image:
            assert image.size[1] == 32 and image.mode == "RGB"
        return path.read_bytes()

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_variations_are_reproducible_and_differ_by_seed(make, tmp_path, pictures, request, family):
    decoder = request.getfixturevalue(family)
    one = make("vary", pictures[0], "-n", "1", "--decoder", decoder)
    assert make("vary", pictures[0], "-n", "1", "--decoder", decoder) == one
    assert make("vary", pictures[1], "-n", "1", "--decoder", decoder) != one


@pytest.mark.parametrize("family", WITH_LAYOUT)
def test_a_low_strength_keeps_the_picture(clipkit, make, tmp_path, pictures, request, family):
    decoder = request.getfixturevalue(family)

    def at(strength: float) -> np.ndarray:
        make("vary", pictures[0], "-n", "1", "--strength", str(strength), "--decoder", decoder, "--steps", "8")
        return np.asarray(Image.open(tmp_path / "out.png")).astype(float)

    barely, free = at(0.01), at(1)  # at least one step is taken
    middle, much = at(0.5), at(0.9)
    assert np.abs(barely - middle).mean() < np.abs(barely - much).mean()
    assert not np.array_equal(much, free)


@pytest.mark.parametrize("family", ("kandinsky", "adapter_15", "unclip"))
def test_pictures_are_blended_from_one_noise(clipkit, make, tmp_path, pictures, request, family):
    decoder = request.getfixturevalue(family)
    make("blend", *pictures, "--steps", "3", "--decoder", decoder)
    with Image.open(tmp_path / "out.png") as strip:
        assert strip.size == (96, 32)
        # The marks of two files differ, so their pixels do by a little.
        parts = [np.asarray(strip.crop((32 * i, 0, 32 * i + 32, 32))).astype(float) for i in range(3)]
    files = [tmp_path / f"out-{i}.png" for i in (1, 2, 3)]
    for file, part in zip(files, parts, strict=True):
        assert np.abs(np.asarray(Image.open(file)) - part).mean() < 6
    steps = [file.read_bytes() for file in files]
    assert len(set(steps)) == 3
    # The middle is the blend with equal weights, and each end is a variation with the same seed, but for the rounding
    # of an image tower that sees one picture instead of two.
    end = np.asarray(Image.open(files[2])).astype(int)
    middle = make("blend", *pictures, "--weights", "2,2", "--decoder", decoder)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(files[1])))
    assert middle == steps[1]
    make("vary", pictures[1], "-n", "1", "--decoder", decoder)
    with Image.open(tmp_path / "out.png") as image:
        assert np.abs(np.asarray(image).astype(int) - end).mean() < 1


@pytest.mark.parametrize("family", WITH_PRIOR)
def test_words_are_blended_through_the_prior(make, pictures, request, family):
    decoder = request.getfixturevalue(family)
    words = make("blend", "a dog", "a cat", "--weights", "1,0", "--decoder", decoder)
    mixed = make("blend", "a dog", pictures[0], "--weights", "1,1", "--decoder", decoder)
    assert words != mixed
    assert make("blend", "a dog", pictures[0], "--weights", "1,1", "--decoder", decoder) == mixed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_restyled(make, pictures, request, family):
    decoder = request.getfixturevalue(family)
    layout = () if family in WITH_LAYOUT else ("--strength", "1")

    def restyle(before: str, after: str, *options: str) -> bytes:
        return make("restyle", pictures[0], "--from", before, "--to", after, "--decoder", decoder, *layout, *options)

    one = restyle("a cat", "a dog")
    assert restyle("a cat", "a dog") == one
    others = [restyle("a cat", "a bird"), restyle("a hat", "a dog")]
    if family in WITH_LAYOUT:
        others.append(restyle("a cat", "a dog", "--amount", "0.9"))
    assert len({one, *others}) == 1 + len(others)


def test_what_a_decoder_cannot_do_it_refuses_in_one_line(clipkit, tmp_path, pictures, unclip, adapter_15):
    cases = [
        (("vary", pictures[0], "--strength", "0.5", "--decoder", unclip), "--strength 1"),
        (("restyle", pictures[0], "--from", "a", "--to", "b", "--decoder", unclip), "kandinsky-2-2"),
        (("restyle", pictures[0], "--from", "a", "--to", "b", "--amount", "0.5", "--decoder", unclip), "--amount"),
        (("blend", pictures[0], "a dog", "--decoder", adapter_15), "kandinsky-2-2"),
    ]
    for command, advice in cases:
        output = clipkit(*command, "-o", tmp_path / "a.png")
        assert output.code == 2 and advice in output.err and len(output.err.splitlines()) == 1, output
    assert not (tmp_path / "a.png").exists()


def test_bad_arguments_are_refused_before_anything_is_made(clipkit, tmp_path, pictures, kandinsky):
    first = pictures[0]
    cases = [
        ("vary", first, "--strength", "0"),
        ("vary", first, "-n", "0"),
        ("vary", tmp_path / "missing.png"),
        ("vary", "12"),
        ("blend", first),
        ("blend", first, "missing.png"),
        ("blend", first, "!!!"),
        ("blend", first, first, "--weights", "1"),
        ("blend", first, first, "--weights", "0,0"),
        ("blend", first, first, "--weights", "nan,1"),
        ("blend", first, first, "--weights", "a,b"),
        ("blend", first, first, "--steps", "1"),
        ("restyle", first, "--from", "a dog", "--to", " a  dog"),
        ("restyle", first, "--from", "", "--to", "a dog"),
        ("restyle", first, "--from", "a cat", "--to", "a dog", "--amount", "0"),
        ("restyle", first, "--from", "a cat", "--to", "a dog", "--amount", "nan"),
        ("restyle", first, "--to", "a dog"),
    ]
    for command in cases:
        output = clipkit(*command, "--decoder", kandinsky, "-o", tmp_path / "a.png")
        assert output.code == 2 and output.err.strip(), command
        assert "Traceback" not in output.err
    assert not (tmp_path / "a.png").exists()


def test_defaults_in_the_help_are_those_of_the_code(clipkit):
    text = re.sub(r"\s+", " ", clipkit("restyle", "--help").out)
    assert f"[default: {restyle_module.AMOUNT}]" in text
    assert f"[default: {restyle_module.STRENGTH}]" in text


def test_a_long_strip_is_reduced():
    strip = side_by_side([Image.new("RGB", (1024, 1024), "red")] * 20)
    assert strip.width <= STRIP_WIDTH and strip.height == STRIP_WIDTH // 20


class TestInALibrary:
    """With the bundled model."""

    @pytest.fixture(scope="class")
    def library(self, scene_folder: Path, tmp_path_factory: pytest.TempPathFactory):
        with Library.create(tmp_path_factory.mktemp("operations") / "library", model="tiny") as library:
            library.index([scene_folder])
            yield library

    def test_every_picture_is_recorded_marked_and_made_again_by_its_command(self, library, clipkit):
        hits = library.search("a dog", k=2).hits
        made = [
            *library.vary(hits[0].id, 2, strength=0.5, seed=7, steps=3),
            *library.restyle(str(hits[1].id), "a dog", "a cat", seed=7, steps=3),
        ]
        blend = library.blend([hits[0].id, "a violin", hits[1].path], 3, denoising_steps=3, seed=7)
        three = library.blend([hits[0].id, "a violin", "a guitar"], weights=[1, 1, 1], denoising_steps=3, seed=7)
        made += [*blend.pictures, *three.pictures, blend.strip]
        recorded = {picture.id: picture for picture in library.generated()}
        for picture in made:
            assert recorded[picture.id] == picture
            assert verify(picture.path).generated and verify(picture.path).provenance.operation == picture.operation
            assert all(Path(parent).is_file() for parent in picture.parents)
            before = picture.path.read_bytes()
            output = clipkit(*shlex.split(library.command_of(picture))[1:], "--json")
            assert output.code == 0, output.err
            again = json.loads(output.out)
            again = (again["strip"] or again["pictures"][0]) if picture.operation == "blend" else again[0]
            assert Path(again["path"]).read_bytes() == before, library.command_of(picture)

    def test_a_stored_embedding_is_used_and_a_search_does_not_take_a_variation_for_its_picture(self, library):
        hit = library.search("a car", k=1).hits[0]
        (picture,) = library.vary(hit.id, 1, steps=2)
        assert picture.route[0]["through"].startswith("its embedding in the library")
        from clipkit import Query

        generated = library.search(Query(like=(hit.path,)), generate="always").generated
        assert picture.id not in [other.id for other in generated]

    def test_a_picture_in_memory_is_varied(self, library):
        (picture,) = library.vary(Image.new("RGB", (70, 50), "blue"), 1, strength=0.4, steps=2, seed=1)
        assert picture.parents == ("(image)",) and library.command_of(picture) is None

    def test_texts_that_a_command_takes_for_pictures_have_no_command(self, library):
        hit = library.search("a car", k=1).hits[0]
        for text, said in ((str(hit.id), False), ("generated:1", False), ("a car", True)):
            options = {"weights": [1, 1], "denoising_steps": 1}
            (made,) = library.blend([hit.path, Words(text)], **options).pictures
            assert (library.command_of(made) is not None) == said
            (made,) = library.generate(Query(text="a dog", not_=(Words(hit.path if not said else text),)), steps=1)
            assert (library.command_of(made) is not None) == said

    def test_python_refuses_what_the_commands_refuse(self, library):
        hit = library.search("a car", k=1).hits[0]
        for strength in (0, -1, 1.5, float("nan")):
            with pytest.raises(BadQuery, match="strength"):
                library.vary(hit.id, strength=strength)
        with pytest.raises(BadQuery, match="amount"):
            library.restyle(hit.id, "a cat", "a dog", amount=2)
        with pytest.raises(BadQuery, match="at least two"):
            library.blend([hit.id])
        with pytest.raises(DecoderNotAvailable):
            library.vary(hit.id, decoder="no such decoder")
        assert list(inspect.signature(library.vary).parameters)[:2] == ["picture", "n"]
