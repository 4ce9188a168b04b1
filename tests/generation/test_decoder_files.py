"""Which files a decoder needs, and finding them in the hub's cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from clipkit.generation import decoder_files, registry


def test_one_set_of_weights_is_downloaded_in_half_precision_if_published():
    names = [
        "README.md",
        "model_index.json",
        "v1-5-pruned.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/openvino/model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae_1_0/config.json",
        "vae_1_0/diffusion_pytorch_model.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    ]
    expected = [
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    parts = ("unet", "vae", "tokenizer", "image_encoder")
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]} | {p: ["a", "B"] for p in parts}
    assert decoder_files.pipeline_files(names, index, with_tower=False) == expected
    assert "image_encoder/model.safetensors" in decoder_files.pipeline_files(names, index, with_tower=True)


def test_a_decoder_in_the_hubs_cache_is_found_unless_a_part_is_missing(tmp_path, monkeypatch, adapter_15, clipkit):
    """The layout of the hub's cache: models--OWNER--NAME/{refs/main, snapshots/COMMIT/...}."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    entry = registry.resolve_decoder("ip-adapter-sd15")
    assert not decoder_files.on_disk(entry)
    base = _in_cache(tmp_path / "hub", entry.repository)
    shutil.copytree(adapter_15, base, dirs_exist_ok=True)
    assert not decoder_files.on_disk(entry)
    adapter = _in_cache(tmp_path / "hub", entry.adapter)
    (adapter / "models").mkdir()
    shutil.copy(base / "models" / "ip-adapter_random.safetensors", adapter / entry.adapter_file)
    assert decoder_files.on_disk(entry) and decoder_files.image_tower_folder(entry) is None
    output = clipkit(
        "generate", "a dog", "--decoder", entry.id, "--size", "32", "--steps", "2", "-o", tmp_path / "a.png"
    )
    assert output.code == 0 and "GPU memory" in output.err
    row = next(r for r in json.loads(clipkit("decoders", "list", "--json").out) if r["id"] == entry.id)
    assert row["on_disk"] and row["licence"] and row["download_gb"]
    next((base / "unet").glob("*.safetensors")).unlink()
    assert decoder_files.missing_parts(entry) == ["unet"]
    refused = clipkit("generate", "a dog", "--decoder", entry.id, "-o", tmp_path / "a.png")
    assert refused.code == 2 and "HF_HUB_OFFLINE" in refused.err and refused.err.count("\n") == 1
    pulled = clipkit("decoders", "pull", entry.id)
    assert pulled.code == 2 and pulled.err.count("\n") == 1


def _in_cache(cache: Path, repository: str) -> Path:
    """Create the snapshot folder of a repository in the hub's cache."""
    folder, commit = cache / f"models--{repository.replace('/', '--')}", "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot
