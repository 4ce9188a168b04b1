"""Explanations: the numbers of a search, the concepts, the parts, and heat that lies where the thing is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import Library, Provenance, Query, UnreadableImage, save_marked, verify
from clipkit.errors import BadQuery, ClipkitError
from clipkit.models.loading import forget_encoders, load_encoder, load_torch_encoder
from clipkit.models.onnx.session import OnnxEncoder
from clipkit.samples.painting import paint
from clipkit.samples.world import PlacedThing, compose, settings, things
from clipkit.searching.occlusion import occlude
from clipkit.searching.searcher import MATCH_CANDIDATES

THINGS = {thing.name: thing for thing in things()}
SETTINGS = {setting.name: setting for setting in settings()}
DOG_LEFT = compose(SETTINGS["beach"], [THINGS["dog"], THINGS["soccer ball"]], random.Random(4), "left")


def over(heat: np.ndarray, placed: PlacedThing) -> float:
    """The mean heat in a thing's box."""
    rows, columns = (np.arange(cells) + 0.5 for cells in heat.shape)
    y, x, half = rows / len(rows), columns / len(columns), placed.width / 2
    return float(heat[np.ix_(abs(y - placed.y) <= half, abs(x - placed.x) <= half)].mean())


@pytest.fixture(scope="module")
def library(scene_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """A library of 28 scenes, more than the match decision looks at, and one with a dog and a ball."""
    folder = tmp_path_factory.mktemp("explained")
    (folder / "photos").mkdir()
    for path in sorted(scene_folder.rglob("*.jpg"))[:28]:
        (folder / "photos" / path.name).write_bytes(path.read_bytes())
    paint(DOG_LEFT, 96).save(folder / "photos" / "dog.png")
    with Library.create(folder / "library", model="tiny") as library:
        library.index([folder / "photos"])
        yield library


@pytest.fixture
def dog(library: Library) -> Path:
    return library.path.parent / "photos" / "dog.png"


def test_the_heat_lies_on_the_named_thing_and_the_parts_have_their_own(library: Library, dog: Path):
    explanation = library.explain("a dog and a soccer ball on the beach", dog)
    the_dog, the_ball = DOG_LEFT.placed
    assert [part.text for part in explanation.parts] == ["a dog", "a soccer ball", "on the beach"]
    of_dog, of_ball, _ = (part.heat for part in explanation.parts)
    assert of_dog.shape == (48, 48) and of_dog.dtype == np.float32 and of_dog.min() >= 0 and 0.7 < of_dog.max() <= 1
    assert over(of_dog, the_dog) > 2 * over(of_dog, the_ball)
    assert over(of_ball, the_ball) > 2 * over(of_ball, the_dog)
    assert min(over(explanation.heat, the_dog), over(explanation.heat, the_ball)) > explanation.heat.mean()
    assert explanation.seen == (0, 0, 1, 1)


def test_what_the_picture_does_not_show_stays_cold(library: Library, dog: Path):
    assert library.explain("a rocket", dog).heat.max() < 0.7


def test_what_is_avoided_is_a_part_and_cools_the_query(library: Library, dog: Path):
    explanation = library.explain(Query("a dog", not_=("a soccer ball",)), dog)
    (avoided,) = explanation.parts
    the_dog, the_ball = DOG_LEFT.placed
    assert avoided.avoided and avoided.in_words == "not a soccer ball"
    assert over(avoided.heat, the_ball) > 2 * over(avoided.heat, the_dog)
    assert over(explanation.heat, the_dog) > 2 * over(explanation.heat, the_ball)
    assert explanation.score < library.explain("a dog", dog).score


def test_the_numbers_are_those_of_the_hit_on_any_page(library: Library):
    query = Query("a cat on the beach", not_=("a dog",))
    pages = (library.search(query, k=10, offset=offset).hits for offset in (0, MATCH_CANDIDATES))
    first, *_, last = [hit for page in pages for hit in page]
    for hit in (first, last):
        explanation = library.explain(query, hit.path)
        assert explanation.score == pytest.approx(hit.score, abs=1e-5)
        assert explanation.confidence == pytest.approx(hit.confidence, abs=1e-6)
        assert explanation.matched == hit.matched


def test_concepts_name_what_is_asked_for_what_is_shown_and_both(library: Library, dog: Path):
    explanation = library.explain("a puppy", dog)
    assert explanation.query_concepts[0][0] == "a dog"
    shown = [concept for concept, _ in explanation.picture_concepts]
    assert {"a dog", "a soccer ball"} <= set(shown)
    assert explanation.shared_concepts[0][0] == "a dog"
    for concepts in (explanation.query_concepts, explanation.picture_concepts, explanation.shared_concepts):
        scores = [score for _, score in concepts]
        assert scores == sorted(scores, reverse=True) and scores[-1] > 0 and scores[0] <= 1 + 1e-6


def test_a_picture_is_explained_by_another_picture(library: Library, dog: Path):
    snow = paint(compose(SETTINGS["snow"], [THINGS["soccer ball"]], random.Random(2)), 96)
    explanation = library.explain(Query(like=(snow,)), Image.open(dog))
    the_dog, the_ball = DOG_LEFT.placed
    assert over(explanation.heat, the_ball) > over(explanation.heat, the_dog)
    assert explanation.picture == "(image)" and "a soccer ball" in dict(explanation.query_concepts)


def test_plain_data_has_all_of_it(library: Library, dog: Path):
    reports = []
    explanation = library.explain("a dog in the blorp", dog, progress=reports.append)
    data = json.loads(json.dumps(explanation.to_json()))
    assert set(data) == {
        *("query", "picture", "library", "model", "score", "confidence", "matched", "query_concepts"),
        *("picture_concepts", "shared_concepts", "parts", "heat", "seen", "notes"),
    }
    assert data["query"]["unknown_words"] == ["blorp"] and "blorp" in data["notes"][0]
    assert np.asarray(data["heat"]).shape == (48, 48) and data["picture"] == str(dog)
    assert set(data["parts"][0]) == {"text", "avoided", "score", "confidence", "shown", "heat"}
    assert reports[-1].done == reports[-1].total


def test_the_drawing_of_a_photo_carries_no_marks_and_never_replaces_it(library: Library, dog: Path, tmp_path: Path):
    explanation = library.explain("a dog", dog)
    explanation.save(tmp_path / "heat.png")
    with Image.open(tmp_path / "heat.png") as drawing:
        drawing.load()
        assert drawing.mode == "RGB" and drawing.info["Description"] == "a dog"
    assert not verify(tmp_path / "heat.png").generated
    before = dog.read_bytes()
    for path in (dog, tmp_path / "heat.txt", tmp_path / "no folder" / "heat.png"):
        with pytest.raises(ClipkitError) as error:
            explanation.save(path)
        assert "\n" not in str(error.value)
    assert dog.read_bytes() == before


def test_the_drawing_of_a_generated_picture_says_so(library: Library, tmp_path: Path):
    made = tmp_path / "made.png"
    save_marked(paint(DOG_LEFT, 128), made, Provenance("a dog", "tiny", 7))
    explanation = library.explain("a dog", made)
    explanation.save(tmp_path / "heat.png")
    marks = verify(tmp_path / "heat.png")
    assert marks.generated and marks.edited and marks.watermark.found
    assert marks.provenance.operation == "explain" and "trainedAlgorithmicMedia" in marks.provenance.parent_marks
    assert marks.provenance.parent_name == made.name
    assert any("generated by AI" in note for note in explanation.notes)


def test_torch_and_onnx_runtime_agree(monkeypatch):
    monkeypatch.setattr("clipkit.searching.occlusion.WINDOWS", ((0.4, 4, 1.0),))
    in_onnx, in_torch = load_encoder("tiny", "cpu", search=True), load_torch_encoder("tiny", "cpu")
    assert isinstance(in_onnx, OnnxEncoder) and not isinstance(in_torch, OnnxEncoder)
    direction = in_onnx.encode_texts(["a dog"])[0]
    pixels = in_onnx.preprocessing.pixels(paint(DOG_LEFT, 96))
    one, other = (occlude(encoder, pixels).heat(direction, (0, 0, 1, 1), (20, 20)) for encoder in (in_onnx, in_torch))
    assert one.max() == 1 and np.abs(one - other).max() < 0.02


@pytest.mark.parametrize(
    ("resize_mode", "seen"), [("shortest", (1 / 3, 0, 2 / 3, 1)), ("longest", (0, 0, 1, 1)), ("squash", (0, 0, 1, 1))]
)
def test_a_vision_transformer_with_its_own_preprocessing(resize_mode: str, seen, tmp_path: Path, monkeypatch):
    """With random weights: the heat is in coordinates of the upright picture, and 0 where the model sees nothing."""
    monkeypatch.setattr("clipkit.searching.library_matcher.concepts", lambda: ("a dog", "a cat", "a car"))
    picture = Image.effect_noise((90, 30), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: upright it is 30 wide and 90 high
    (tmp_path / "photos").mkdir()
    picture.save(tmp_path / "photos" / "turned.jpg", exif=exif)
    with Library.create(tmp_path / "library", model=str(_vision_transformer(tmp_path / "vit", resize_mode))) as library:
        library.index([tmp_path / "photos"])
        explanation = library.explain("a dog", tmp_path / "photos" / "turned.jpg")
    forget_encoders()
    left, top, right, bottom = seen
    assert explanation.seen == pytest.approx((top, left, bottom, right), abs=0.02)
    assert explanation.heat.shape == (48, 16) and explanation.heat.max() > 0
    rows = (np.arange(48) + 0.5) / 48
    unseen = (rows < explanation.seen[1]) | (rows > explanation.seen[3])
    assert unseen.any() == (resize_mode == "shortest") and not explanation.heat[unseen].any()
    assert any("sees only the middle" in note for note in explanation.notes) == unseen.any()
    explanation.save(tmp_path / "heat.jpg")
    with Image.open(tmp_path / "heat.jpg") as drawing:
        drawing.load()


def _vision_transformer(folder: Path, resize_mode: str) -> Path:
    """A checkpoint of a small ViT with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}}
    config["preprocess_cfg"] = {"resize_mode": resize_mode}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("picture", ["no such file.jpg", 999, "generated:7"])
def test_pictures_that_there_are_not(library: Library, picture):
    with pytest.raises(BadQuery):
        library.explain("a dog", picture)


def test_a_file_that_is_no_picture(library: Library, tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    with pytest.raises(UnreadableImage):
        library.explain("a dog", tmp_path / "bad.jpg")


def test_an_empty_library_explains_a_picture_of_no_match(tmp_path: Path):
    with Library.create(tmp_path / "library", model="tiny") as library:
        explanation = library.explain("a dog", paint(DOG_LEFT, 96))
    the_dog, the_ball = DOG_LEFT.placed
    assert over(explanation.heat, the_dog) > 2 * over(explanation.heat, the_ball)
    assert not explanation.matched and np.isfinite(explanation.confidence)
