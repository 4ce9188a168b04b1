"""Generation is checked against a list of refused concepts: what is asked for, and what was made."""

from __future__ import annotations

import json
import random
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import Library, Query
from clipkit.errors import GenerationRefused
from clipkit.generation import registry
from clipkit.generation.safety import Guard, is_on
from clipkit.generation.safety_list import PACKAGED, list_in_force, read_list
from clipkit.samples.painting import paint
from clipkit.samples.world import compose, settings, things

WHALES = 'name = "sea giants"\naction = "{}"\nreason = "they need the sea"\nphrasings = ["a whale"]'


def write_list(path: Path, *concepts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"[[concept]]\n{concept}\n" for concept in concepts), "utf-8")
    return path


@pytest.fixture
def own_list(tmp_path, monkeypatch) -> Path:
    """The user's own list, which refuses whales; tests write others in its place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return write_list(tmp_path / "config" / "clipkit" / "safety.toml", WHALES.format("refuse"))


def scene(path: Path, name: str) -> Path:
    thing = next(thing for thing in things() if thing.name == name)
    paint(compose(settings()[0], [thing], random.Random(1)), 128).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("whale", "dog", "cat"):
        scene(folder / f"{name}.png", name)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """A small library without whales."""
    from clipkit.samples.photos import write_samples

    folder = tmp_path_factory.mktemp("library")
    write_samples(folder / "photos", 24, size=64)
    with Library.open_or_create(folder / "indexes" / "default", model="tiny") as library:
        library.index([folder / "photos"], workers=1)
    return folder


@pytest.fixture
def library_of_scenes(scenes, tmp_path) -> Path:
    shutil.copytree(scenes / "indexes", tmp_path / "indexes")
    return tmp_path / "indexes" / "default"


def test_it_is_on_for_all_decoders_but_the_bundled_one(kandinsky):
    assert not is_on(registry.resolve_decoder("tiny"), None) and is_on(registry.resolve_decoder("tiny"), True)
    assert all(is_on(entry, None) for entry in registry.entries() if entry.id != "tiny")
    assert is_on(registry.resolve_decoder(str(kandinsky)), None)
    assert not is_on(registry.resolve_decoder(str(kandinsky)), False)


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "two WHALES, on the beach"),
        ("generate", "a wh\u00adale"),
        ("generate", "--like", "whale.png"),
        ("generate", "a cat", "--like", "whale.png"),
        ("vary", "whale.png", "-n", "1"),
        ("blend", "dog.png", "a whale"),
        ("restyle", "dog.png", "--from", "a dog", "--to", "a whale"),
        ("edit", "dog.png", "a whale", "--box", "10,10,60,60"),
        ("extend", "dog.png", "a whale", "--right", "32"),
        ("extend", "whale.png", "--right", "32"),
    ],
)
def test_texts_and_pictures_of_every_operation_are_refused(clipkit, tmp_path, pictures, own_list, monkeypatch, command):
    monkeypatch.chdir(pictures)
    made = tmp_path / "made.png"
    output = clipkit(*command, "--decoder", "tiny", "--steps", "2", "--safety", "-o", made)
    assert output.code == 2 and output.out == "" and output.err.count("\n") == 1, output.err
    assert "'sea giants' (they need the sea)" in output.err and str(own_list) in output.err
    assert not list(tmp_path.glob("made*"))


@pytest.mark.parametrize("allowed", [("a cat",), ("a cat", "--not", "a whale"), ("--like", "dog.png")])
def test_other_things_are_made_and_so_is_what_is_avoided(clipkit, tmp_path, pictures, own_list, monkeypatch, allowed):
    monkeypatch.chdir(pictures)
    made = tmp_path / "made.png"
    output = clipkit("generate", *allowed, "--decoder", "tiny", "--steps", "2", "--safety", "-o", made)
    assert (output.code, output.err) == (0, "") and made.exists()


def test_other_words_for_the_same_are_refused_by_their_embedding(clipkit, tmp_path, own_list):
    write_list(own_list, 'name = "dogs"\naction = "refuse"\nphrasings = ["a dog"]')
    options = ("--decoder", "tiny", "--steps", "2", "--safety", "-o", tmp_path / "made.png")
    assert not read_list(own_list).concepts[0].is_named_in("a puppy on the beach")
    for text in ("a puppy", "a cat and a puppy", "a puppy on the beach"):
        output = clipkit("generate", text, *options)
        assert output.code == 2 and repr(text) in output.err and "'dogs'" in output.err
    assert clipkit("generate", "a piano", *options).code == 0


def test_a_picture_that_was_made_is_refused(own_list, pictures):
    guard = Guard(list_in_force(), registry.resolve_decoder("tiny"), device="cpu")
    for name in ("dog", "cat"):
        guard.check_made(Image.open(pictures / f"{name}.png").convert("RGB"))
    with pytest.raises(GenerationRefused, match="the picture that was made shows 'sea giants'"):
        guard.check_made(Image.open(pictures / "whale.png").convert("RGB"))


def test_a_warning_is_said_recorded_and_made_again_byte_by_byte(clipkit, own_list, library_of_scenes):
    write_list(own_list, WHALES.format("warn"))
    command = ("generate", "a whale on the beach", "--steps", "2", "--seed", "4", "--json")
    warned, silent, default = (clipkit(*command, *more) for more in (("--safety",), ("--no-safety",), ()))
    assert warned.code == 0 and warned.err.count("\n") == 1
    assert "warning: the text 'a whale on the beach' asks for 'sea giants'" in warned.err
    assert (silent.err, default.err) == ("", "")
    rows = [json.loads(output.out)[0] for output in (warned, silent, default)]
    assert rows[0]["parameters"]["warnings"] == ["sea giants"] and rows[0]["parameters"]["safety"] is True
    assert rows[1]["parameters"]["no_safety"] is True and "warnings" not in rows[1]["parameters"]
    assert not {"safety", "no_safety", "warnings"} & rows[2]["parameters"].keys()
    for row, option in zip(rows, ("--safety", "--no-safety", None), strict=True):
        (shown,) = json.loads(clipkit("generated", "show", str(row["id"]), "--json").out)
        words = shlex.split(shown["command"])
        assert [word for word in words if "safety" in word or "warn" in word] == ([option] if option else [])
        again = clipkit(*words[1:])
        assert again.code == 0 and Path(again.out.strip()).read_bytes() == Path(row["path"]).read_bytes()


def test_a_search_that_would_generate_it_prints_its_hits_and_a_note(clipkit, own_list, library_of_scenes):
    query = ("search", "a whale in the snow", "--json")
    refused = clipkit(*query, "--safety")
    result = json.loads(refused.out)
    assert refused.code == 1 and result["hits"] and result["generated"] == []
    (note,) = [note for note in result["notes"] if "no picture was generated" in note]
    assert "'sea giants'" in note and str(own_list) in note
    assert not list(library_of_scenes.glob("generated/*"))
    always = clipkit(*query, "--safety", "--generate", "always")
    assert always.code == 1 and json.loads(always.out)["hits"] == result["hits"]
    made = json.loads(clipkit(*query, "--no-safety").out)["generated"]
    assert len(made) == 1
    write_list(own_list, WHALES.format("warn"))
    checked = json.loads(clipkit(*query, "--safety").out)
    assert checked["generated"][0]["id"] != made[0]["id"], "one made without the check does not pass for one with it"
    assert any("warning" in note for note in checked["notes"])


def test_an_earlier_picture_must_have_been_checked_if_the_check_is_on(own_list, library_of_scenes):
    from clipkit.generation.fallback import find_earlier

    query, tiny = Query(text="a cat"), registry.resolve_decoder("tiny")
    guard = Guard(read_list(own_list), tiny)
    with Library.open(library_of_scenes) as library:
        assert find_earlier(query, tiny, library.catalog, guard) is None
        (checked,) = library.generate(query, steps=1, safety=True)
        for safety in (False, None):  # None leaves it off for the bundled decoder
            (newest,) = library.generate(query, steps=1, safety=safety)
            assert find_earlier(query, tiny, library.catalog, None).id == newest.id
            assert find_earlier(query, tiny, library.catalog, guard).id == checked.id


def test_the_librarys_list_replaces_the_users_which_replaces_the_packages(clipkit, own_list, library_of_scenes):
    assert json.loads(clipkit("decoders", "safety", "--json").out)["path"] == str(own_list)
    of_library = write_list(
        library_of_scenes / "safety.toml", 'name = "cats"\naction = "refuse"\nphrasings = ["a cat"]'
    )
    shown = clipkit("decoders", "safety").out
    assert str(of_library) in shown and "refuse  cats" in shown and "sea giants" not in shown
    options = ("--steps", "2", "--safety")
    assert clipkit("generate", "a whale", *options).code == 0
    assert clipkit("generate", "a cat", *options).code == 2
    of_library.unlink()
    own_list.unlink()
    listed = json.loads(clipkit("decoders", "safety", "--json").out)
    assert listed["path"] == str(PACKAGED) and {one["action"] for one in listed["concepts"]} == {"refuse", "warn"}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "concept = []"),
        ("[[concept]\n", "line 1"),
        ("concept = 3\n", "concept = []"),
        ("[[concepts]]\nname = 'x'\n", "'concepts'"),
        ("[[concept]]\naction = 'refuse'\n", "needs a name"),
        ("[[concept]]\nname = 'x'\naction = 'forbid'\nphrasings = ['x']\n", "not 'forbid'"),
        ("[[concept]]\nname = 'x'\naction = 'warn'\n", "needs phrasings"),
        ("[[concept]]\nname = 'x'\naction = 'warn'\nphrasings = 'x'\n", "needs phrasings"),
        ("[[concept]]\nname = 'x'\naction = 'warn'\nphrasings = ['x', '!']\n", "'!'"),
        ("[[concept]]\nname = 'x'\naction = 'warn'\nphrasing = ['x']\n", "'phrasing'"),
        ("[[concept]]\nname = 'x'\naction = 'warn'\nreason = 3\nphrasings = ['x']\n", "reason"),
        (2 * "[[concept]]\nname = 'x'\naction = 'warn'\nphrasings = ['x']\n", "two concepts"),
    ],
)
def test_mistakes_in_a_list_are_one_line_and_nothing_is_generated(clipkit, tmp_path, own_list, text, mistake):
    own_list.write_text(text, "utf-8")
    for command in (
        ("generate", "a cat", "--decoder", "tiny", "--safety", "-o", tmp_path / "made.png"),
        ("decoders", "safety"),
    ):
        output = clipkit(*command)
        assert output.code == 2 and output.err.count("\n") == 1 and output.out == ""
        assert mistake in output.err and str(own_list) in output.err, output.err
    assert not (tmp_path / "made.png").exists()


def test_bytes_that_are_no_text_and_an_empty_list(clipkit, tmp_path, own_list):
    own_list.write_bytes(b"\xff\xfe")
    with pytest.raises(GenerationRefused, match="UTF-8"):
        list_in_force()
    own_list.write_text("concept = []\n")
    made = tmp_path / "made.png"
    assert clipkit("generate", "a whale", "--decoder", "tiny", "--steps", "1", "--safety", "-o", made).code == 0


@pytest.mark.parametrize("family", ["kandinsky", "adapter_15", "unclip"])
def test_published_decoders_are_checked_unless_told_otherwise(clipkit, tmp_path, request, family):
    made = tmp_path / "made.png"
    command = ("generate", "a bowl with swastikas", "--decoder", request.getfixturevalue(family), "-o", made)
    refused = clipkit(*command)
    assert refused.code == 2 and refused.err.count("\n") == 1 and not made.exists()
    assert "'symbols of hate'" in refused.err and str(PACKAGED) in refused.err
    assert clipkit(*command, "--no-safety").code == 0 and made.exists()


def test_what_cannot_be_checked_is_said(clipkit, tmp_path, kandinsky, adapter_15):
    made = tmp_path / "made.png"
    blind = clipkit("generate", "a dog", "--decoder", adapter_15, "-o", made)
    assert blind.code == 0 and "by their words only, and the pictures themselves were not checked" in blind.err
    seeing = clipkit("generate", "a dog", "--decoder", kandinsky, "-o", made)
    assert (seeing.code, seeing.err) == (0, "")
    decoder = tmp_path / "without-tower"
    shutil.copytree(kandinsky, decoder)
    shutil.rmtree(decoder / "prior" / "image_encoder")
    half = clipkit("generate", "a dog", "--decoder", decoder, "-o", made)
    assert half.code == 0 and half.err.count("\n") == 1 and "image tower" in half.err, half.err


def test_the_embedding_after_the_prior_and_the_picture_are_checked_by_the_decoders_own_towers(
    tmp_path, own_list, kandinsky
):
    """With random weights any word may be what a picture shows: ones that are, are found by trying many."""
    from clipkit.generation.generate import generate
    from clipkit.generation.loading import load_conditioner
    from clipkit.generation.safety_towers import find_towers
    from clipkit.matching.prototypes import PICTURE_THRESHOLD, Prototypes
    from clipkit.vectors.unit import unit

    made, query = tmp_path / "made.png", Query(text="a dog")
    options = {"decoder": str(kandinsky), "seed": 3, "device": "cpu", "output": made}
    generate(query, safety=False, **options)
    entry = registry.resolve_decoder(str(kandinsky))
    (towers,) = find_towers(entry, (), "cpu")
    picture = towers.pictures([Image.open(made).convert("RGB")])[0]
    before = load_conditioner(entry, "cpu").embed_texts(["a dog"], 3)[0]
    rng, bank = random.Random(0), towers.bank(None)
    found: dict[str, str] = {}
    for _ in range(12):
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 30))) for _ in range(500)]
        prototypes = Prototypes.fit(list(unit(towers.texts(words))[:, None]), bank)
        would, shows = prototypes.in_pictures(np.stack([before, picture]))
        unasked = prototypes.in_texts(unit(towers.texts(["a dog"])))[0] < 3
        for stage, fits in (
            ("the picture would show", np.where(unasked, would, -np.inf)),
            ("the picture that was made shows", np.where(unasked & (would < 0), shows, -np.inf)),
        ):
            if fits.max() >= PICTURE_THRESHOLD + 0.05:
                found[stage] = words[int(fits.argmax())]
        if len(found) == 2:
            break
    assert len(found) == 2
    for stage, word in found.items():
        write_list(own_list, f'name = "found"\naction = "refuse"\nphrasings = ["{word}"]')
        made.unlink()
        with pytest.raises(GenerationRefused, match=f"{stage} 'found'"):
            generate(query, **options)
        assert not made.exists()
        own_list.write_text(own_list.read_text().replace("refuse", "warn"))
        told: list[str] = []
        (kept,) = generate(query, say=told.append, **options)
        assert made.exists() and kept.parameters["warnings"] == ["found"] and len(told) == 1 and stage in told[0]


def test_pictures_without_names_do_not_get_each_others_generated_picture(library_of_scenes, pictures):
    from clipkit.generation.fallback import find_earlier

    tiny = registry.resolve_decoder("tiny")
    cat, dog = (Image.open(pictures / f"{name}.png").convert("RGB") for name in ("cat", "dog"))
    cat_bytes, dog_bytes = ((pictures / f"{name}.png").read_bytes() for name in ("cat", "dog"))
    file = library_of_scenes / "same-name.png"
    with Library.open(library_of_scenes) as library:

        def found(picture: object) -> int | None:
            earlier = find_earlier(Query(like=(picture,)), tiny, library.catalog, guard=None)
            return earlier.id if earlier else None

        for one, again, other in ((cat, cat.copy(), dog), (dog_bytes, dog_bytes, cat_bytes)):
            (made,) = library.generate(Query(like=(one,)), steps=1)
            assert found(again) == made.id and found(other) is None
        file.write_bytes(cat_bytes)
        (made,) = library.generate(Query(like=(file,)), steps=1)
        assert found(file) == made.id
        file.write_bytes(dog_bytes)
        assert found(file) is None, "the name is the same, the picture is not"
        result = library.search(Query(like=(dog_bytes,)), generate="always")
        assert result.generated[0].id == found(dog_bytes) and "just now" not in result.notes[-1]
