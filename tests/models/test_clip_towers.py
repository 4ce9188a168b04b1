"""Graphs built without torch compute torch's vectors, for every kind of model that they are used for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipkit.errors import ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models import checkpoint, loading
from clipkit.models.loading import load_encoder, load_torch_encoder
from clipkit.models.onnx import exports, int8, plain_clip
from clipkit.models.onnx.clip_towers import ClipArchitecture
from clipkit.models.onnx.graphs import agreement
from clipkit.models.onnx.session import OnnxEncoder
from clipkit.models.reference import ModelRef
from clipkit.models.registry import CONFIG, WEIGHTS, entries

VISION = {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
PLAIN = {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXT}
QUICK = {**PLAIN, "quick_gelu": True, "vision_cfg": {**VISION, "mlp_ratio": 4.9231, "layers": 1}}
PREPROCESS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "interpolation": "bilinear", "resize_mode": "squash"}
TEXTS = ["a dog", "a photo of two cats at night", "", "x " * 50, "犬", "a dog"]


def make_checkpoint(folder: Path, model_cfg: dict, dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint with random weights, also where a fresh model has zeros and ones."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS}))
    torch.manual_seed(0)
    with checkpoint._quiet():
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    state = {name: (value + 0.05 * torch.randn_like(value)).to(dtype) for name, value in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exports, "cache_folder", lambda: tmp_path / "cache")
    yield tmp_path / "cache"
    loading.forget_encoders()


def vectors_of(encoder) -> list[np.ndarray]:
    """Return vectors of texts and pictures, alone and in batches."""
    pixels = np.random.default_rng(1).integers(0, 256, (11, 64, 64, 3)).astype(np.uint8)
    texts = [encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS[:1])]
    return [*texts, encoder.encode_images(pixels), encoder.encode_images(pixels[:1])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("model_cfg", [PLAIN, QUICK], ids=["GELU", "QuickGELU"])
def test_the_vectors_of_torch_without_torch(tmp_path, cache, model_cfg, dtype, monkeypatch):
    folder = make_checkpoint(tmp_path / "model", model_cfg, dtype)
    expected = load_torch_encoder(str(folder), "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "load", lambda *_: pytest.fail("torch was loaded"))
        loading.load_torch_encoder.cache_clear()
        ours = load_encoder(str(folder))
    assert isinstance(ours, OnnxEncoder) and ours.note == ""
    for actual, wanted in zip(vectors_of(ours), vectors_of(expected), strict=True):
        assert np.allclose(actual, wanted, atol=2e-5 * np.abs(wanted).max())
    assert (ours.space, ours.dimension, ours.preprocessing) == (str(folder), 32, expected.preprocessing)
    assert ours.preprocessing == Preprocessing(64, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "bilinear", "squash")


def test_a_picture_has_the_same_vector_in_every_batch_of_an_index(tmp_path, cache):
    encoder = load_encoder(str(make_checkpoint(tmp_path / "model", PLAIN)))
    at_once = encoder.image_batch
    pixels = np.random.default_rng(1).integers(0, 256, (2 * at_once, 64, 64, 3)).astype(np.uint8)
    both = encoder.encode_images(pixels)
    assert np.array_equal(both[at_once:], encoder.encode_images(pixels[at_once:]))


def test_the_checked_export_has_the_same_graphs(tmp_path, cache):
    """`clipkit models export` compares them with torch, and measures both."""
    folder = make_checkpoint(tmp_path / "model", PLAIN)
    first = vectors_of(load_encoder(str(folder)))
    checked = loading.export_model(str(folder))
    assert checked.refused == "" and min(checked.cosines.values()) > 0.9999 and len(checked.image_rates) == 2
    loading.forget_encoders()
    second = vectors_of(load_encoder(str(folder), search=True))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


OTHERS = {
    "layer scale": ({**VISION, "ls_init_value": 0.1}, TEXT, {}),
    "average pooling": ({**VISION, "pool_type": "avg"}, TEXT, {}),
    "no causal mask": (VISION, {**TEXT, "no_causal_mask": True}, {}),
    "another end of text": (VISION, {**TEXT, "pool_type": "eos", "eos_id": 7}, {}),
    "ResNet": ({"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}, TEXT, {}),
    "a custom text tower": (VISION, TEXT, {"custom_text": True}),
    "a bias of the logits": (VISION, TEXT, {"init_logit_bias": -10}),
    "rectangles": ({**VISION, "image_size": [64, 32]}, TEXT, {}),
    "nothing": ({}, {}, {}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_any_setting_unknown_here_is_another_architecture(other):
    vision, text, more = OTHERS[other]
    assert ClipArchitecture.of({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text, **more}) is None


@pytest.mark.parametrize("change", ["one too many", "one missing", "another shape", "bfloat16", "truncated"])
def test_a_checkpoint_with_other_weights_is_left_to_torch(tmp_path, cache, change):
    folder = make_checkpoint(tmp_path / "model", PLAIN)
    assert plain_clip.find_plain_clip(ModelRef.of(str(folder)))
    state = load_file(folder / WEIGHTS)
    if change == "one too many":
        state["visual.transformer.resblocks.0.ls_1.gamma"] = torch.ones(64)
    elif change == "one missing":
        del state["visual.ln_pre.weight"]
    elif change == "another shape":
        state["positional_embedding"] = torch.zeros(77, 64)
    elif change == "bfloat16":
        state = {name: value.bfloat16() for name, value in state.items()}
    save_file(state, folder / WEIGHTS)
    if change == "truncated":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])
    assert plain_clip.find_plain_clip(ModelRef.of(str(folder))) is None
    assert plain_clip.prepare(ModelRef.of(str(folder))) is None and not cache.exists()


def test_the_plain_models_of_the_registry_are_built_from_open_clips_files():
    plain = [e for e in entries() if e.plain_clip]
    assert len(plain) == 4
    for e in plain:
        assert plain_clip._open_clip_config(e.open_clip_name) == open_clip.get_model_config(e.open_clip_name)


def test_two_processes_prepare_a_model_once_and_a_damaged_one_again(tmp_path, cache):
    folder = make_checkpoint(tmp_path / "model", PLAIN)
    first = plain_clip.prepare(ModelRef.of(str(folder)))
    assert plain_clip.prepare(ModelRef.of(str(folder))).files == first.files
    graph = first.folder / first.facts["image"]
    graph.write_bytes(b"\0" * graph.stat().st_size)
    assert isinstance(load_encoder(str(folder)), OnnxEncoder)
    second = exports.find_export(str(folder))
    assert not (set(first.files) & set(second.files)) and not graph.exists()


def test_a_model_that_is_gone_is_reported_as_before(tmp_path, cache):
    folder = make_checkpoint(tmp_path / "model", PLAIN)
    shutil.rmtree(folder)
    with pytest.raises(ModelNotAvailable):
        load_encoder(str(folder))


def test_killed_while_preparing_nothing_is_lost(tmp_path, cache):
    folder = make_checkpoint(tmp_path / "model", PLAIN)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from clipkit.models.onnx import exports, int8, plain_clip\n"
        "from clipkit.models.reference import ModelRef\n"
        f"exports.cache_folder = lambda: Path({str(cache)!r})\n"
        "write = plain_clip.PlainClip.write\n"
        "def die(self, tower, path):\n"
        "    write(self, tower, path)\n"
        "    if tower == 'text': os._exit(9)\n"
        "plain_clip.PlainClip.write = die\n"
        f"plain_clip.prepare(ModelRef.of({str(folder)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert exports.find_export(str(folder)) is None and len(list(cache.rglob("*.onnx"))) == 2
    assert isinstance(load_encoder(str(folder)), OnnxEncoder)
    assert sorted(p.name for p in cache.rglob("*.onnx")) == sorted(
        name for name in exports.find_export(str(folder)).files if name.endswith(".onnx")
    )


def test_indexing_and_searching_with_a_new_plain_model_never_import_torch(tmp_path, scene_folder):
    folder = make_checkpoint(tmp_path / "model", PLAIN)
    code = (
        "import sys; from pathlib import Path; from clipkit import Library\n"
        "from clipkit.models.onnx import exports\n"
        f"exports.cache_folder = lambda: Path({str(tmp_path / 'cache')!r})\n"
        "import clipkit.searching.library_matcher as matcher\n"
        "matcher.concepts = lambda: ('a dog', 'a cat', 'a car')\n"
        f"with Library.create(Path({str(tmp_path / 'library')!r}), {str(folder)!r}) as library:\n"
        f"    report = library.index([Path({str(scene_folder / '2023')!r})], workers=1)\n"
        "    hits = library.search('a dog', 3, generate='never').hits\n"
        "assert report.embedded > 5 and hits, report\n"
        "assert set(report.timings_ms) == {'load', 'scan', 'hash', 'decode', 'encode', 'commit', 'publish'}\n"
        "assert all(ms > 0 for ms in report.timings_ms.values()), report.timings_ms\n"
        "print([name for name in ('torch', 'open_clip', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_graphs_can_be_quantised(tmp_path, cache, scene_folder, monkeypatch):
    monkeypatch.setattr(int8, "SAMPLE_IMAGES", 60)
    monkeypatch.setattr(int8, "MINIMUM_RECALL", 0.0)
    monkeypatch.setattr(int8, "measure", lambda *_: (10.0, 20.0))
    folder = make_checkpoint(tmp_path / "model", PLAIN)
    exact = vectors_of(load_encoder(str(folder)))
    verdicts = int8.quantise(str(folder), [scene_folder], ["a dog", "a cat"])
    assert all(verdict.kept for verdict in verdicts)
    loading.forget_encoders()
    assert set(exports.find_export(str(folder)).int8) == {"text", "image"}
    for quantised, wanted in zip(vectors_of(load_encoder(str(folder))), exact, strict=True):
        assert not np.array_equal(quantised, wanted) and agreement(quantised, wanted) > 0.8
