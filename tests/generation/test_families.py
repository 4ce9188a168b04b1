"""Every family of decoders makes pictures of words, pictures and both by the same command, from local folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit.generation import decoder_files, placement, registry
from clipkit.generation.placement import enable_tiling, must_offload

FAMILIES = ("adapter_15", "adapter_xl", "unclip", "kandinsky")


@pytest.fixture
def red(tmp_path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_words_pictures_and_both_make_pictures_and_a_seed_makes_them_again(clipkit, tmp_path, red, request, family):
    decoder = request.getfixturevalue(family)

    def made(*query: str | Path) -> bytes:
        path = tmp_path / "made.png"
        output = clipkit("generate", *query, "--decoder", decoder, "--seed", "3", "-o", path)
        assert output.code == 0, output.err
        with Image.open(path) as image:
            assert image.size == (32, 32) and image.mode == "RGB"
        return path.read_bytes()

    words, picture = made("a dog"), made("--like", red)
    mixed, avoiding = made("a dog", "--like", red), made("a dog", "--not", "a cat")
    without = made("--like", red, "--not", tmp_path / "blue.png") if _blue(tmp_path) else b""
    assert len({words, picture, mixed, avoiding, without}) == 5
    assert made("a dog", "--like", red) == mixed
    assert made("a dog") == words


def _blue(folder: Path) -> Path:
    path = folder / "blue.png"
    Image.effect_noise((50, 50), 60).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_the_progress_counts_every_step_and_a_family_is_known_without_being_said(request, family, tmp_path):
    from clipkit import Query
    from clipkit.generation.generate import generate

    decoder = tmp_path / "copy"
    shutil.copytree(request.getfixturevalue(family), decoder)
    expected = registry.resolve_decoder(str(decoder)).family
    (decoder / "clipkit.json").write_text(json.dumps({"size": 32, "steps": 3}))
    assert registry.resolve_decoder(str(decoder)).family == expected
    seen = []
    generate(
        Query(text="a dog"),
        decoder=str(decoder),
        steps=2,
        guidance=1.0,
        output=tmp_path / "a.png",
        progress=seen.append,
    )
    assert [(p.done, p.total) for p in seen if p.stage == "generating the picture"] == [(1, 2), (2, 2)]


def test_the_weights_of_words_and_pictures_set_the_adapters_scale(clipkit, tmp_path, red, adapter_15):
    def made(words: str, picture: str) -> np.ndarray:
        path = tmp_path / "made.png"
        query = ("a dog", "--like", red, "--weight", words, "--weight", picture)
        assert clipkit("generate", *query, "--decoder", adapter_15, "--seed", "3", "-o", path).code == 0
        return np.asarray(Image.open(path)).astype(float)

    alone = tmp_path / "words.png"
    assert clipkit("generate", "a dog", "--decoder", adapter_15, "--seed", "3", "-o", alone).code == 0
    words = np.asarray(Image.open(alone)).astype(float)
    little, much = (np.abs(made(*weights) - words).mean() for weights in (("50", "1"), ("1", "50")))
    assert little < much


def test_adapters_of_hidden_states_are_refused_in_one_line(clipkit, tmp_path, adapter_15):
    from stable_diffusion_checkpoints import unet, write_adapter

    plus = tmp_path / "plus"
    shutil.copytree(adapter_15, plus)
    write_adapter(unet(32), plus / "models" / "ip-adapter_random.safetensors", hidden_states=True)
    output = clipkit("generate", "a dog", "--decoder", plus, "-o", tmp_path / "a.png")
    assert output.code == 2 and "hidden states" in output.err and output.err.count("\n") == 1


def test_an_image_tower_that_comes_later_is_seen_by_the_same_process(clipkit, tmp_path, red, adapter_15):
    decoder = tmp_path / "adapter"
    shutil.copytree(adapter_15, decoder)
    query = ("generate", "--like", red, "--decoder", decoder, "-o", tmp_path / "made.png")
    tower = decoder / "models" / "image_encoder"
    hidden = tower.rename(tmp_path / "hidden")
    refused = clipkit(*query)
    assert refused.code == 2 and refused.err.count("\n") == 1, refused.err
    hidden.rename(tower)
    assert clipkit(*query).code == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_torn_part_is_one_line(clipkit, tmp_path, request, family):
    decoder = tmp_path / "torn"
    shutil.copytree(request.getfixturevalue(family), decoder)
    (weights,) = (decoder / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    output = clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "a.png")
    assert output.code == 2 and "torn" in output.err and output.err.count("\n") == 1, output.err


def test_a_family_that_is_none_says_which_there_are(clipkit, tmp_path, adapter_15):
    decoder = tmp_path / "other"
    shutil.copytree(adapter_15, decoder)
    (decoder / "clipkit.json").write_text('{"family": "dall-e"}')
    output = clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "a.png")
    assert output.code == 2 and "stable-unclip" in output.err and output.err.count("\n") == 1


def test_embeddings_of_another_size_are_refused_in_one_line(clipkit, tmp_path, scene_folder, adapter_15, unclip):
    assert clipkit("index", scene_folder / "2023", "--model", "tiny").code == 0
    for number, family in enumerate((adapter_15, unclip)):
        decoder = tmp_path / f"says-tiny-{number}"
        shutil.copytree(family, decoder)
        (decoder / "clipkit.json").write_text(json.dumps({"space": "tiny", "size": 32, "steps": 2}))
        output = clipkit("generate", "--like", next((scene_folder / "2023").rglob("*.jpg")), "--decoder", decoder)
        assert output.code == 2 and "not 256" in output.err and output.err.count("\n") == 1, output.err


def test_kandinskys_nothing_is_computed_once_and_then_its_image_tower_is_never_loaded(clipkit, tmp_path, kandinsky):
    decoder, first, again = tmp_path / "kandinsky", tmp_path / "first.png", tmp_path / "again.png"
    shutil.copytree(kandinsky, decoder)
    (decoder / "prior" / "prior" / "config.json").write_text(  # another content: nothing of it is cached yet
        (decoder / "prior" / "prior" / "config.json").read_text() + "\n"
    )
    query = ("generate", "a dog", "--decoder", decoder, "--seed", "1", "-o")
    tower = decoder / "prior" / "image_encoder"
    hidden = tower.rename(decoder / "hidden")
    refused = clipkit(*query, first)
    assert refused.code == 2 and "image_encoder" in refused.err and refused.err.count("\n") == 1
    hidden.rename(tower)
    assert clipkit(*query, first).code == 0
    tower.rename(hidden)
    from clipkit.generation.loading import load_conditioner

    load_conditioner.cache_clear()
    assert clipkit(*query, again).code == 0
    assert first.read_bytes() == again.read_bytes()
    assert decoder_files.cached_unconditional_embedding(registry.resolve_decoder(str(decoder))).shape == (32,)


def test_what_is_downloaded_is_one_set_of_weights_in_half_precision_where_there_is_one():
    names = [
        "README.md",
        "model_index.json",
        "v1-5-pruned.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "image_encoder/model.safetensors",
        "image_encoder/config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "vae_1_0/config.json",
        "vae_1_0/diffusion_pytorch_model.safetensors",
        "unet/openvino/model.safetensors",
    ]
    parts = ("unet", "vae", "tokenizer", "image_encoder")
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]} | {p: ["a", "B"] for p in parts}
    assert decoder_files.pipeline_files(names, index, with_tower=False) == [
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert "image_encoder/model.safetensors" in decoder_files.pipeline_files(names, index, with_tower=True)


def test_half_precision_is_read_where_there_is_no_other(clipkit, tmp_path, adapter_15):
    decoder = tmp_path / "half"
    shutil.copytree(adapter_15, decoder)
    weights = decoder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert (
        decoder_files.weight_variant(adapter_15, "cpu") is None
        and decoder_files.weight_variant(decoder, "cpu") == "fp16"
    )
    assert clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "a.png").code == 0


def test_an_image_tower_in_half_precision_only_is_read_too(clipkit, tmp_path, red, unclip):
    """As `clipkit decoders pull` leaves it where the hub has both."""
    decoder = tmp_path / "half"
    shutil.copytree(unclip, decoder)
    weights = decoder / "image_encoder" / "model.safetensors"
    weights.rename(weights.with_name("model.fp16.safetensors"))
    output = clipkit("generate", "--like", red, "--decoder", decoder, "-o", tmp_path / "a.png")
    assert output.code == 0, output.err


def test_kandinsky_in_half_precision_makes_pictures_with_and_without_guidance(kandinsky):
    """As on a GPU, where its weights are in half precision and the embeddings come in full."""
    import torch

    from clipkit.generation.decoder import Conditioning, Settings
    from clipkit.generation.kandinsky import KandinskyDecoder

    decoder = KandinskyDecoder(registry.resolve_decoder(str(kandinsky)), "cpu")
    decoder.pipeline.to(torch.float16)
    rng = np.random.default_rng(0)
    wanted, away = (Conditioning(rng.standard_normal(decoder.dimension).astype(np.float32)) for _ in range(2))
    for guidance in (1.0, 4.0):
        made = decoder.generate(decoder.prepare(wanted, away), Settings(1, 2, guidance, 32), lambda step: None)
        assert made.size == (32, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_codecs_that_can_work_in_tiles_do_and_others_are_left_alone(request, family):
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(request.getfixturevalue(family), low_cpu_mem_usage=False)
    enable_tiling(pipeline)
    if family != "kandinsky":
        assert pipeline.vae.use_tiling


def test_parts_take_turns_on_a_gpu_that_is_too_small():
    assert must_offload(11.0, 8.0) and must_offload(7.5, 8.0)
    assert not must_offload(4.0, 8.0) and not must_offload(11.0, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_the_same_where_parts_take_turns(clipkit, tmp_path, red, request, family, monkeypatch):
    """The CPU stands in for a GPU with no room, which diffusers allows: models come and go by accelerate's hooks."""
    pytest.importorskip("accelerate")
    from clipkit.generation.loading import load_conditioner, load_decoder

    decoder = tmp_path / "large"
    shutil.copytree(request.getfixturevalue(family), decoder)
    facts = json.loads((decoder / "clipkit.json").read_text())
    (decoder / "clipkit.json").write_text(json.dumps(facts | {"memory_gb": 100}))

    def made() -> np.ndarray:
        for load in (load_decoder, load_conditioner):
            load.cache_clear()
        query = ("a dog", "--like", red, "--decoder", decoder, "--seed", "3", "--device", "cpu")
        output = clipkit("generate", *query, "-o", tmp_path / "made.png")
        assert output.code == 0 and "wants about 100 GB of GPU memory" in output.err, output.err
        return np.asarray(Image.open(tmp_path / "made.png")).astype(int)

    whole = made()
    monkeypatch.setattr(placement, "free_gpu_memory", lambda device: 0.001)
    assert np.abs(made() - whole).max() <= 2  # the hooks change the last bits
    load_decoder.cache_clear()
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.is_accelerate_available", lambda: False)
    output = clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "made.png")
    assert output.code == 2 and "clipkit[decoders]" in output.err.splitlines()[-1]


def test_a_decoder_in_the_hubs_cache_is_found_and_one_that_lacks_a_part_is_not_complete(
    tmp_path, monkeypatch, adapter_15, clipkit
):
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
    folder, commit = cache / f"models--{repository.replace('/', '--')}", "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot
