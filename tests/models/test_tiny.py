"""The bundled model: open_clip's own classes load it, it reports unknown words, and it scores as its card says."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from clipkit.errors import ModelNotAvailable
from clipkit.models.checkpoint import spread_token_rows
from clipkit.models.concepts import concept_vectors
from clipkit.models.loading import load_encoder
from clipkit.models.reference import ModelRef
from clipkit.models.registry import BUNDLED
from clipkit.samples.captions import caption
from clipkit.samples.painting import paint
from clipkit.samples.world import scenes
from clipkit.vectors.unit import unit


@pytest.fixture(scope="module")
def tiny():
    return load_encoder("tiny", "cpu")


def test_open_clips_own_model_and_tokenizer_give_the_same_vectors(tiny):
    """open_clip's `CLIP` class, tokenizer and image transform, with the stored weights."""
    from safetensors.torch import load_file

    folder = BUNDLED / "clip"
    config = json.loads((folder / "open_clip_config.json").read_text())
    model = open_clip.model.CLIP(
        config["model_cfg"]["embed_dim"],
        open_clip.CLIPVisionCfg(**config["model_cfg"]["vision_cfg"]),
        open_clip.CLIPTextCfg(**config["model_cfg"]["text_cfg"]),
    ).eval()
    state = spread_token_rows(load_file(folder / "open_clip_model.safetensors"), 49408)
    model.load_state_dict(state)
    texts = ["a dog on the beach", "a photo of a zebra", ""]
    tokens = open_clip.SimpleTokenizer(context_length=config["model_cfg"]["text_cfg"]["context_length"])(texts)
    pictures = [paint(scene, 200) for scene in islice(scenes(4), 3)]
    preprocess = config["preprocess_cfg"]
    transform = open_clip.image_transform(
        64, is_train=False, mean=preprocess["mean"], std=preprocess["std"], resize_mode=preprocess["resize_mode"]
    )
    with torch.inference_mode():
        expected_texts = model.encode_text(tokens).numpy()
        expected_images = model.encode_image(torch.stack([transform(picture) for picture in pictures])).numpy()
    pixels = np.stack([tiny.preprocessing.pixels(picture) for picture in pictures])
    assert np.allclose(tiny.encode_texts(texts), expected_texts, atol=1e-4)
    assert np.allclose(tiny.encode_images(pixels), expected_images, atol=1e-4)


def test_token_rows_are_spread_over_the_table():
    state = {
        "token_embedding.ids": torch.tensor([2, 5], dtype=torch.int32),
        "token_embedding.rows": torch.tensor([[1.0, 2.0], [3.0, 4.0]]).half(),
        "token_embedding.unknown": torch.tensor([9.0, 9.0]).half(),
    }
    table = spread_token_rows(state, 7)["token_embedding.weight"]
    assert table.shape == (7, 2) and table.dtype == torch.float32
    assert table[2].tolist() == [1, 2] and table[5].tolist() == [3, 4] and table[0].tolist() == [9, 9]


def test_only_unknown_words_are_reported(tiny):
    assert tiny.unknown_words("A Purple whale, at night!") == ["purple"]
    assert tiny.unknown_words("dogs and a puppy under the stars") == []
    rng = random.Random(1)
    assert all(tiny.unknown_words(caption(scene, rng)) == [] for scene in islice(scenes(77), 200))


def test_vectors_do_not_depend_on_the_batch(tiny):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 64, 64, 3), np.uint8)
    together = tiny.encode_images(pixels)
    alone = np.concatenate([tiny.encode_images(pixels[i : i + 1]) for i in range(6)])
    assert np.allclose(unit(together), unit(alone), atol=1e-5)
    assert together.shape == (6, tiny.dimension) and together.dtype == np.float32


def test_held_out_combinations_are_found(tiny):
    """A smaller version of the card's evaluation on 1,000 scenes; training has not seen these scenes."""
    sample, rng = list(islice(scenes(31_337, held_out=True), 200)), random.Random(2)
    images = unit(tiny.encode_images(np.stack([tiny.preprocessing.pixels(paint(s, 64)) for s in sample])))
    texts = unit(tiny.encode_texts([caption(scene, rng) for scene in sample]))
    best = (texts @ images.T).argmax(1)
    assert np.mean([sample[j].content == scene.content for j, scene in zip(best, sample, strict=True)]) >= 0.88


def test_the_scores_of_the_card_reach_the_targets():
    in_checkout = Path(__file__).parents[2] / "clipkit" / "bundled"  # the wheel does not carry the scores
    scores = json.loads((in_checkout / "clip" / "scores.json").read_text())["retrieval"]
    seen, held_out = scores["seen combinations"], scores["held-out combinations"]
    assert seen["scenes"] == held_out["scenes"] == 1000
    assert seen["recall@1"] >= 0.93 and seen["recall@10"] >= 0.995
    assert held_out["recall@1"] >= 0.88 and held_out["recall@10"] >= 0.99


def test_concepts_are_encoded_once_and_a_corrupt_cache_is_ignored(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("clipkit.models.concepts._cache_folder", lambda: tmp_path)
    first = concept_vectors(tiny, ["a dog", "a cat"])
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    (cached,) = tmp_path.glob("*.npy")
    assert np.array_equal(concept_vectors(tiny, ["a dog", "a cat"]), first)
    cached.write_bytes(cached.read_bytes()[:50])
    assert np.array_equal(concept_vectors(tiny, ["a dog", "a cat"]), first)
    assert concept_vectors(tiny, ["a dog"]).shape == (1, tiny.dimension)


def test_a_checkpoint_folder_is_a_model(tmp_path):
    import shutil

    shutil.copytree(BUNDLED / "clip", tmp_path / "mine")
    encoder = load_encoder(str(tmp_path / "mine"), "cpu")
    assert encoder.space == str(tmp_path / "mine") and encoder.dimension == 256
    assert ModelRef.resolve(str(tmp_path / "other")).folder is None


@pytest.mark.parametrize("model", ["no-such-model", "ViT-B-32/no-such-tag", ""])
def test_a_model_that_does_not_exist_is_an_error_of_one_line(model):
    with pytest.raises(ModelNotAvailable) as error:
        load_encoder(model, "cpu")
    assert "\n" not in str(error.value)


def test_a_truncated_checkpoint_is_an_error_of_one_line(tmp_path):
    import shutil

    folder = tmp_path / "truncated"
    shutil.copytree(BUNDLED / "clip", folder)
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(ModelNotAvailable) as error:
        load_encoder(str(folder), "cpu")
    assert "\n" not in str(error.value) and "cannot be loaded" in str(error.value)
