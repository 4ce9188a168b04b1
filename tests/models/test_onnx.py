"""ONNX Runtime computes the vectors of torch for all families of towers, and falls back to torch where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipkit.cli.main import main
from clipkit.errors import ClipkitError, ModelNotAvailable
from clipkit.matching import concepts
from clipkit.models import checkpoint, loading
from clipkit.models.loading import load_encoder, load_torch_encoder
from clipkit.models.onnx import export, exports, int8
from clipkit.models.onnx.graphs import agreement
from clipkit.models.onnx.session import OnnxEncoder, exported_encoder
from clipkit.models.onnx.shipped import GRAPH_INFO, GRAPHS, shipped_encoder
from clipkit.models.reference import ModelRef
from clipkit.models.registry import BUNDLED, CONFIG, WEIGHTS
from clipkit.models.torch_encoder import OpenClipEncoder

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
FAMILIES = {
    "ModifiedResNet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": TEXT,
    },
    # The layer scale needs torch's exporter; plain ViTs are tested in `test_clip_towers`.
    "ViT with QuickGELU": {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 64,
            "layers": 1,
            "width": 64,
            "head_width": 32,
            "patch_size": 16,
            "ls_init_value": 0.1,
        },
        "text_cfg": {**TEXT, "layers": 1},
    },
    "SigLIP, timm with MAP pooling": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "timm_model_name": "test_vit2",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {**TEXT, "layers": 1, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "ViT with average pooling and attentional pooling": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 64,
            "layers": 1,
            "width": 64,
            "head_width": 32,
            "patch_size": 16,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 4,
        },
        "text_cfg": {**TEXT, "layers": 1, "embed_cls": True, "pad_id": 0},
    },
}


def make_checkpoint(folder: Path, model_cfg: dict, seed: int = 0) -> Path:
    """Write a checkpoint of an architecture with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    torch.manual_seed(seed)
    with checkpoint._quiet():
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    return folder


def load_checkpoint(model: str | Path) -> OpenClipEncoder:
    return checkpoint.load(ModelRef.of(str(model)), "cpu")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small ViT; tests must not change it."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "vit", FAMILIES["ViT with QuickGELU"])


@pytest.fixture(scope="module")
def cache_with_export(vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the export of `vit`; tests must not change it."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports, "cache_folder", lambda: cache)
        assert main(["models", "export", str(vit)]) == 0
        assert exports.find_export(str(vit)).refused == ""
    return cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setattr(exports, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def exported(cache_with_export: Path, cache: Path) -> Path:
    """A cache of the test's own with the export of `vit`."""
    shutil.copytree(cache_with_export, cache)
    return cache


@pytest.mark.parametrize("family", [name for name in FAMILIES if "Quick" not in name])
def test_each_family_computes_the_vectors_of_torch(family, tmp_path, cache):
    folder = make_checkpoint(tmp_path / "model", FAMILIES[family])
    encoder = load_checkpoint(folder)
    assert export.export(encoder).refused == ""
    same_vectors(str(folder), encoder)


def test_a_vit_with_quick_gelu_computes_the_vectors_of_torch(vit, exported):
    same_vectors(str(vit), load_checkpoint(vit))


def same_vectors(model: str, encoder: OpenClipEncoder) -> None:
    export = exports.find_export(model)
    assert min(export.cosines.values()) >= 0.9999
    ours = exported_encoder(export)
    rng = np.random.default_rng(1)
    for count in (1, 2, 5):
        pixels = rng.integers(0, 256, (count, ours.preprocessing.size, ours.preprocessing.size, 3)).astype(np.uint8)
        assert np.allclose(ours.encode_images(pixels), encoder.encode_images(pixels), atol=1e-4)
        texts = ["a dog", "a photo of two cats at night", "", "x " * 50, "犬"][:count]
        with torch.inference_mode():  # with full padding, which clipkit trims
            padded = encoder.model.encode_text(torch.from_numpy(encoder.tokens(texts))).numpy()
        assert np.allclose(encoder.encode_texts(texts), padded, atol=1e-5)
        assert np.allclose(ours.encode_texts(texts), padded, atol=1e-4)
    assert (ours.space, ours.dimension, ours.preprocessing) == (encoder.space, encoder.dimension, encoder.preprocessing)
    assert ours.encode_texts([]).shape == (0, ours.dimension)


def test_an_export_is_used_for_indexing_and_searching_without_loading_torch(vit, exported, monkeypatch):
    monkeypatch.setattr(checkpoint, "load", lambda *_: pytest.fail("torch was loaded"))
    faster = replace(exports.find_export(str(vit)), image_rates=(10.0, 20.0))
    monkeypatch.setattr(exports, "find_export", lambda model_id: faster)
    assert isinstance(load_encoder(str(vit), "cpu"), OnnxEncoder)
    assert load_encoder(str(vit), "cpu") is load_encoder(str(vit), search=True)


def test_if_torch_is_faster_it_is_used_for_indexing_and_onnx_for_searching(vit, exported, monkeypatch):
    slower = replace(exports.find_export(str(vit)), image_rates=(20.0, 10.0))
    monkeypatch.setattr(exports, "find_export", lambda model_id: slower)
    assert isinstance(load_encoder(str(vit), "cpu"), OpenClipEncoder)
    assert isinstance(load_encoder(str(vit), search=True), OnnxEncoder)


@pytest.fixture
def moved(exported, vit, tmp_path):
    """A copy of the checkpoint, with the export of the original as its own."""
    folder = tmp_path / "model"
    shutil.copytree(vit, folder)
    export_folder = exports.folder_of(str(folder))
    exports.find_export(str(vit)).folder.rename(export_folder)
    values = json.loads((export_folder / exports.MANIFEST).read_text())
    values |= {"space": str(folder), "source": exports.file_stamp(folder / WEIGHTS)}
    (export_folder / exports.MANIFEST).write_text(json.dumps(values))
    return folder


def test_a_replaced_checkpoint_is_exported_again(moved):
    folder = moved
    first = exports.find_export(str(folder))
    assert isinstance(load_encoder(str(folder), search=True), OnnxEncoder)
    make_checkpoint(folder, FAMILIES["ViT with QuickGELU"], seed=1)
    os.utime(folder / WEIGHTS, ns=(1, 1))
    assert exports.find_export(str(folder)) is None
    load_torch_encoder.cache_clear()
    found = load_encoder(str(folder), search=True)
    second = exports.find_export(str(folder))
    assert second.weights != first.weights and not (set(second.files) & set(first.files))
    assert sorted(p.name for p in second.folder.iterdir() if p.name != "lock") == sorted(
        [*second.files, "manifest.json"]
    )
    expected = load_checkpoint(folder).encode_texts(["a dog"])
    assert agreement(found.encode_texts(["a dog"]), expected) >= 0.9999


def test_an_export_remains_valid_if_the_checkpoint_is_deleted(moved):
    """The library's vectors are from the same model. A new checkpoint in its place is checked."""
    folder = moved
    before = load_encoder(str(folder), search=True).encode_texts(["a dog"])
    loading.forget_encoders()
    shutil.rmtree(folder)
    after = load_encoder(str(folder), search=True)
    assert isinstance(after, OnnxEncoder) and np.array_equal(after.encode_texts(["a dog"]), before)
    make_checkpoint(folder, FAMILIES["ViT with QuickGELU"], seed=1)
    assert exports.find_export(str(folder)) is None


def test_a_truncated_or_outdated_export_is_ignored(vit, exported):
    found = exports.find_export(str(vit))
    weights = next(found.folder / name for name in found.files if name.endswith(".weights"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    assert exports.find_export(str(vit)) is None
    weights.write_bytes(whole)
    assert exports.find_export(str(vit)) is not None
    manifest = found.folder / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "format": exports.FORMAT + 1}))
    assert exports.find_export(str(vit)) is None
    manifest.write_text("{")
    assert exports.find_export(str(vit)) is None


def test_a_graph_that_onnx_runtime_cannot_open_is_exported_again(vit, exported, monkeypatch):
    found = exports.find_export(str(vit))
    graph = found.folder / found.facts["text"]
    graph.write_bytes(b"\0" * graph.stat().st_size)
    again_values: list[bool] = []
    monkeypatch.setattr(loading, "_export", lambda *_, again: again_values.append(again))
    loading._onnx_encoders.clear()
    assert isinstance(load_encoder(str(vit), search=True), OpenClipEncoder) and again_values == [True]
    with pytest.raises(ModelNotAvailable, match="clipkit models export"):
        exported_encoder(found).encode_texts(["a dog"])


def test_an_export_with_other_vectors_is_refused_with_a_note_and_not_retried(vit, cache, monkeypatch):
    monkeypatch.setattr(export, "compare", lambda *_: {"text": 0.99, "image": 1.0})
    encoder = load_encoder(str(vit), search=True)
    assert isinstance(encoder, OpenClipEncoder) and "cosine 0.99" in encoder.note and "\n" not in encoder.note
    assert not list(cache.rglob("*.onnx")) and not list(cache.rglob("*.weights"))
    with monkeypatch.context() as patch:
        patch.setattr(export, "export", lambda *_, **__: pytest.fail("it was retried"))
        assert "cosine 0.99" in load_encoder(str(vit), search=True).note
    monkeypatch.setattr(exports, "library_versions", lambda: {"torch": "a later version"})
    assert exports.find_export(str(vit)) is None


def test_after_a_mismatch_index_and_search_use_torch_with_a_note(vit, cache, monkeypatch, clipkit, scene_folder):
    monkeypatch.setattr(export, "compare", lambda *_: {"text": 1.0, "image": 0.98})
    monkeypatch.setattr("clipkit.searching.library_matcher.concepts", lambda: ("a dog", "a cat", "a car"))
    indexed = clipkit("index", scene_folder / "2023", "--model", vit, "--workers", "1")
    assert indexed.code == 0 and indexed.err.count("\n") == 1, indexed.err
    assert "runs in torch" in indexed.err and "image vectors differ from those of torch (cosine 0.98000)" in indexed.err
    searched = clipkit("search", "a dog", "--min-confidence", "0", "--generate", "never")
    assert searched.code == 0 and searched.out and "runs in torch" in searched.err
    output = clipkit("models", "export", vit)
    assert output.code == 2 and output.err.count("\n") == 1 and "stays in torch" in output.err


def test_a_failed_export_is_recorded(vit, cache, monkeypatch):
    def fails(encoder, tower, path):
        (path.parent / "raw").mkdir()
        raise RuntimeError("no such operator")

    monkeypatch.setattr(export, "_write", fails)
    encoder = load_encoder(str(vit), search=True)
    assert isinstance(encoder, OpenClipEncoder) and "cannot be exported" in encoder.note
    assert exports.find_export(str(vit)).refused and not list(cache.rglob("raw"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_full_disk_or_memory_is_not_recorded(vit, cache, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(export, "_write", fails)
    encoder = load_encoder(str(vit), search=True)
    reason = "ran out of memory" if isinstance(error, MemoryError) else str(cache)
    assert isinstance(encoder, OpenClipEncoder) and reason in encoder.note
    assert exports.find_export(str(vit)) is None


@pytest.mark.parametrize("trouble", ["no folder", "disk full"])
def test_without_a_usable_cache_torch_is_used_with_a_note(vit, tmp_path, cache, monkeypatch, trouble):
    if trouble == "no folder":
        cache.write_text("a file in place of the folder")
    else:
        monkeypatch.setattr(exports.shutil, "disk_usage", lambda _: _FullDisk())
    encoder = load_encoder(str(vit), search=True)
    assert isinstance(encoder, OpenClipEncoder)
    assert str(cache) in encoder.note and "\n" not in encoder.note
    assert encoder.encode_texts(["a dog"]).shape == (1, 32)


class _FullDisk:
    free = 1000


def test_only_one_process_exports_at_a_time(vit, cache):
    with exports.new_export_folder(str(vit), needed=0, wait=False) as first:
        assert first is not None
        code = (
            "from pathlib import Path; from clipkit.models.onnx import exports\n"
            f"exports.cache_folder = lambda: Path({str(cache)!r})\n"
            f"with exports.new_export_folder({str(vit)!r}, needed=0, wait=False) as folder: print(folder)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "None"


def test_leftovers_of_a_killed_export_are_deleted_and_never_used(vit, cache, tmp_path):
    code = (
        "import time; from pathlib import Path; from clipkit.models.onnx import exports\n"
        f"exports.cache_folder = lambda: Path({str(cache)!r})\n"
        f"with exports.new_export_folder({str(vit)!r}, needed=0, wait=False) as folder:\n"
        "    (folder / 'text.onnx').write_bytes(b'half')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "ready"
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    process.stdout.close()
    assert len(list(cache.rglob("unfinished-*"))) == 1 and exports.find_export(str(vit)) is None
    with exports.new_export_folder(str(vit), needed=0, wait=False) as folder:
        assert folder is not None and list(cache.rglob("unfinished-*")) == [folder]
    assert not list(cache.rglob("unfinished-*"))


def test_the_graphs_of_the_bundled_model_compute_its_vectors():
    tiny, ours = load_checkpoint("tiny"), shipped_encoder(ModelRef.of("tiny"))
    assert min(export.compare(tiny, ours).values()) >= 0.99999
    assert all((BUNDLED / "clip" / name).stat().st_size < 150_000 for name in GRAPHS.values())
    for name in ("space", "dimension", "preprocessing", "concepts", "match"):
        assert getattr(tiny, name) == getattr(ours, name)
    assert ours.unknown_words("a purple dog") == tiny.unknown_words("a purple dog") == ["purple"]


def test_shipped_graphs_are_ignored_for_another_architecture(tmp_path):
    import shutil

    folder = tmp_path / "mine"
    shutil.copytree(BUNDLED / "clip", folder)
    assert shipped_encoder(ModelRef.of(str(folder))) is not None
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"]["heads"] = 6
    (folder / CONFIG).write_text(json.dumps(config))
    assert shipped_encoder(ModelRef.of(str(folder))) is None
    (folder / GRAPH_INFO).unlink()
    assert shipped_encoder(ModelRef.of(str(folder))) is None


def test_recall_counts_shared_neighbours():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 16)).astype(np.float32)
    assert int8.recall(vectors, vectors, vectors, vectors) == 1.0
    assert int8.recall(vectors, vectors, -vectors, vectors) < 0.3
    assert int8.recall(vectors[:5], vectors, vectors[:5], vectors, same=False) == 1.0


def test_quantised_towers_are_kept_only_with_enough_recall(vit, exported, tmp_path, monkeypatch, scene_folder):
    before = exports.find_export(str(vit))
    monkeypatch.setattr(int8, "SAMPLE_IMAGES", 60)
    monkeypatch.setattr(int8, "measure", lambda *_: (10.0, 20.0))
    monkeypatch.setattr(int8, "MINIMUM_RECALL", 1.01)
    assert not any(v.kept for v in int8.quantise(str(vit), [scene_folder], ["a dog"]))
    assert exports.find_export(str(vit)) == before
    monkeypatch.setattr(int8, "MINIMUM_RECALL", 0.0)
    verdicts = {v.tower: v for v in int8.quantise(str(vit), [scene_folder], ["a dog", "a cat"])}
    assert verdicts["image"].kept and verdicts["text"].kept
    after = exports.find_export(str(vit))
    assert set(after.int8) == {"text", "image"} and after.image_rates[1] == 2 * before.image_rates[1]
    assert sum(after.files.values()) < sum(before.files.values())
    encoder = exported_encoder(after)
    assert encoder.encode_texts(["a dog"]).shape == (1, 32)
    with pytest.raises(ModelNotAvailable, match="float32"):
        int8.quantise(str(vit), [scene_folder], ["a dog"])


def test_too_few_pictures_to_quantise_are_refused(vit, exported, tmp_path, clipkit):
    with pytest.raises(ClipkitError, match="50 pictures"):
        int8.quantise(str(vit), [tmp_path], ["a dog"])
    for arguments, hint in ((("--pictures", tmp_path), "50 pictures"), ((), "--pictures")):
        output = clipkit("models", "export", vit, "--int8", *arguments)
        assert output.code == 2 and output.err.count("\n") == 1 and hint in output.err, output.err


def test_the_command_reports_which_towers_are_kept(vit, exported, clipkit, monkeypatch, scene_folder):
    before = exports.find_export(str(vit))
    monkeypatch.setattr(int8, "SAMPLE_IMAGES", 60)
    monkeypatch.setattr(int8, "MINIMUM_RECALL", 1.01)
    output = clipkit("models", "export", vit, "--int8", "--pictures", scene_folder)
    assert output.code == 0
    lines = [line for line in output.out.splitlines() if "in int8" in line]
    assert len(lines) == 2 and all("not kept, recall@10 0." in line or "recall@10 1." in line for line in lines), lines
    after = exports.find_export(str(vit))
    assert after.int8 is None and after.weights == before.weights, "float32 remains in use"


def test_images_that_overflow_half_precision_are_encoded_in_float32(vit, monkeypatch):
    """As on a GPU, which the CPU's autocast stands in for."""
    encoder = load_checkpoint(vit)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    expected = encoder.encode_images(pixels)
    encoder._precisions = [torch.bfloat16, torch.float32]
    assert agreement(encoder.encode_images(pixels), expected) > 0.99 and len(encoder._precisions) == 2
    encode_image = encoder.model.encode_image
    monkeypatch.setattr(
        encoder.model, "encode_image", lambda x: encode_image(x) * (np.inf if torch.is_autocast_enabled("cpu") else 1)
    )
    assert np.array_equal(encoder.encode_images(pixels), expected) and encoder._precisions == [torch.float32]


def test_a_transformers_text_tower_computes_the_vectors_of_torch(tmp_path, cache):
    """A small XLM-RoBERTa with a tokenizer trained here, whose tokens and masks differ from CLIP's."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    folder = tmp_path / "model"
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    built = Tokenizer(models.Unigram())
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.train_from_iterator(
        concepts(), trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    )
    built.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    transformers.XLMRobertaConfig(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        type_vocab_size=1,
    ).save_pretrained(folder / "text_model")
    text = {
        "hf_model_name": str(folder / "text_model"),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
        "context_length": 16,
    }
    vision = FAMILIES["ViT with QuickGELU"]["vision_cfg"]
    make_checkpoint(folder, {"embed_dim": 32, "custom_text": True, "vision_cfg": vision, "text_cfg": text})
    encoder = load_checkpoint(folder)
    assert export.export(encoder).refused == ""
    same_vectors(str(folder), encoder)


def test_the_export_of_an_open_clip_model_is_found_without_importing_open_clip(vit, exported):
    """Only open_clip knows where its files are, but the manifest names the checkpoint."""
    found = exports.find_export(str(vit))
    model = "ViT-B-16/some_tag"
    found.folder.rename(exports.folder_of(model))
    manifest = exports.folder_of(model) / exports.MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "space": model}))
    code = (
        "import sys; from pathlib import Path; from clipkit.models.onnx import exports\n"
        f"exports.cache_folder = lambda: Path({str(exported)!r})\n"
        "from clipkit.models.loading import load_encoder\n"
        f"vectors = load_encoder({model!r}, search=True).encode_texts(['a dog'])\n"
        "print(vectors.shape, [name for name in ('torch', 'open_clip') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "(1, 32) []"
