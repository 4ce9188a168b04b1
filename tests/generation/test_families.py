"""Every family of decoders, from a local folder: text, images and both, by the same command."""

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
def test_text_images_and_both_generate_pictures_reproducibly(clipkit, tmp_path, red, request, family):
    decoder = request.getfixturevalue(family)

    def generate(*query: str | Path) -> bytes:
        path = tmp_path / "picture.png"
        output = clipkit("generate", *query, "--decoder", decoder, "--seed", "3", "-o", path)
        assert output.code == 0, output.err
        with Image.open(path) as image:
            assert image.size == (32, 32) and image.mode == "RGB"
        return path.read_bytes()

    noise = tmp_path / "noise.png"
    Image.effect_noise((50, 50), 60).convert("RGB").save(noise)
    text, image, both = generate("a dog"), generate("--like", red), generate("a dog", "--like", red)
    avoiding_text, avoiding_image = generate("a dog", "--not", "a cat"), generate("--like", red, "--not", noise)
    assert len({text, image, both, avoiding_text, avoiding_image}) == 5
    assert generate("a dog", "--like", red) == both
    assert generate("a dog") == text


@pytest.mark.parametrize("family", FAMILIES)
def test_progress_counts_every_step_and_the_family_is_inferred(request, family, tmp_path):
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


def test_the_weights_of_text_and_image_set_the_adapters_scale(clipkit, tmp_path, red, adapter_15):
    def generate(text_weight: str, image_weight: str) -> np.ndarray:
        path = tmp_path / "picture.png"
        query = ("a dog", "--like", red, "--weight", text_weight, "--weight", image_weight)
        assert clipkit("generate", *query, "--decoder", adapter_15, "--seed", "3", "-o", path).code == 0
        return np.asarray(Image.open(path)).astype(float)

    text_only = tmp_path / "text.png"
    assert clipkit("generate", "a dog", "--decoder", adapter_15, "--seed", "3", "-o", text_only).code == 0
    expected = np.asarray(Image.open(text_only)).astype(float)
    mostly_text, mostly_image = (np.abs(generate(*w) - expected).mean() for w in (("50", "1"), ("1", "50")))
    assert mostly_text < mostly_image


def test_adapters_of_hidden_states_are_refused_in_one_line(clipkit, tmp_path, adapter_15):
    from stable_diffusion_checkpoints import unet, write_adapter

    plus = tmp_path / "plus"
    shutil.copytree(adapter_15, plus)
    write_adapter(unet(32), plus / "models" / "ip-adapter_random.safetensors", hidden_states=True)
    output = clipkit("generate", "a dog", "--decoder", plus, "-o", tmp_path / "a.png")
    assert output.code == 2 and "hidden states" in output.err and output.err.count("\n") == 1


def test_an_image_tower_that_is_added_later_is_found_by_the_same_process(clipkit, tmp_path, red, adapter_15):
    decoder = tmp_path / "adapter"
    shutil.copytree(adapter_15, decoder)
    query = ("generate", "--like", red, "--decoder", decoder, "-o", tmp_path / "picture.png")
    tower = decoder / "models" / "image_encoder"
    hidden = tower.rename(tmp_path / "hidden")
    refused = clipkit(*query)
    assert refused.code == 2 and refused.err.count("\n") == 1, refused.err
    hidden.rename(tower)
    assert clipkit(*query).code == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_truncated_part_is_reported_in_one_line(clipkit, tmp_path, request, family):
    decoder = tmp_path / "truncated"
    shutil.copytree(request.getfixturevalue(family), decoder)
    (weights,) = (decoder / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    output = clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "a.png")
    assert output.code == 2 and "truncated" in output.err and output.err.count("\n") == 1, output.err


def test_an_unknown_family_is_refused_with_the_known_ones(clipkit, tmp_path, adapter_15):
    decoder = tmp_path / "other"
    shutil.copytree(adapter_15, decoder)
    (decoder / "clipkit.json").write_text('{"family": "dall-e"}')
    output = clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "a.png")
    assert output.code == 2 and "stable-unclip" in output.err and output.err.count("\n") == 1


def test_embeddings_of_another_dimension_are_refused_in_one_line(clipkit, tmp_path, scene_folder, adapter_15, unclip):
    assert clipkit("index", scene_folder / "2023", "--model", "tiny").code == 0
    for number, family in enumerate((adapter_15, unclip)):
        decoder = tmp_path / f"names-tiny-{number}"
        shutil.copytree(family, decoder)
        (decoder / "clipkit.json").write_text(json.dumps({"space": "tiny", "size": 32, "steps": 2}))
        output = clipkit("generate", "--like", next((scene_folder / "2023").rglob("*.jpg")), "--decoder", decoder)
        assert output.code == 2 and "not 256" in output.err and output.err.count("\n") == 1, output.err


def test_kandinskys_unconditional_embedding_is_cached_so_the_image_tower_is_not_loaded_again(
    clipkit, tmp_path, kandinsky
):
    decoder, first, again = tmp_path / "kandinsky", tmp_path / "first.png", tmp_path / "again.png"
    shutil.copytree(kandinsky, decoder)
    config = decoder / "prior" / "prior" / "config.json"
    config.write_text(config.read_text() + "\n")  # other content, so nothing is cached yet
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


def test_half_precision_is_loaded_if_there_is_nothing_else(clipkit, tmp_path, adapter_15):
    decoder = tmp_path / "half"
    shutil.copytree(adapter_15, decoder)
    weights = decoder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert decoder_files.weight_variant(adapter_15, "cpu") is None
    assert decoder_files.weight_variant(decoder, "cpu") == "fp16"
    assert clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "a.png").code == 0


def test_an_image_tower_in_half_precision_only_is_loaded_too(clipkit, tmp_path, red, unclip):
    """As `clipkit decoders pull` downloads it if the hub has both."""
    decoder = tmp_path / "half"
    shutil.copytree(unclip, decoder)
    weights = decoder / "image_encoder" / "model.safetensors"
    weights.rename(weights.with_name("model.fp16.safetensors"))
    output = clipkit("generate", "--like", red, "--decoder", decoder, "-o", tmp_path / "a.png")
    assert output.code == 0, output.err


def test_kandinsky_in_half_precision_works_with_and_without_guidance(kandinsky):
    """As on a GPU, with weights in half precision and embeddings in float32."""
    import torch

    from clipkit.generation.decoder import Conditioning, Settings
    from clipkit.generation.kandinsky import KandinskyDecoder

    decoder = KandinskyDecoder(registry.resolve_decoder(str(kandinsky)), "cpu")
    decoder.pipeline.to(torch.float16)
    rng = np.random.default_rng(0)
    positive, negative = (Conditioning(rng.standard_normal(decoder.dimension).astype(np.float32)) for _ in range(2))
    for guidance in (1.0, 4.0):
        settings = Settings(seed=1, steps=2, guidance=guidance, size=32)
        image = decoder.generate(decoder.prepare(positive, negative), settings, lambda step: None)
        assert image.size == (32, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_tiling_is_enabled_where_the_codec_supports_it(request, family):
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(request.getfixturevalue(family), low_cpu_mem_usage=False)
    enable_tiling(pipeline)
    if family != "kandinsky":
        assert pipeline.vae.use_tiling


def test_models_too_large_for_the_free_gpu_memory_are_offloaded():
    assert must_offload(11.0, 8.0) and must_offload(7.5, 8.0)
    assert not must_offload(4.0, 8.0) and not must_offload(11.0, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_offload_does_not_change_the_pictures(clipkit, tmp_path, red, request, family, monkeypatch):
    """The CPU stands in for a GPU that is too small, which diffusers allows; accelerate's hooks move the models."""
    pytest.importorskip("accelerate")
    from clipkit.generation.loading import load_conditioner, load_decoder

    decoder = tmp_path / "large"
    shutil.copytree(request.getfixturevalue(family), decoder)
    facts = json.loads((decoder / "clipkit.json").read_text())
    (decoder / "clipkit.json").write_text(json.dumps(facts | {"memory_gb": 100}))

    def generate() -> np.ndarray:
        for load in (load_decoder, load_conditioner):
            load.cache_clear()
        query = ("a dog", "--like", red, "--decoder", decoder, "--seed", "3", "--device", "cpu")
        output = clipkit("generate", *query, "-o", tmp_path / "picture.png")
        assert output.code == 0 and "needs about 100 GB of GPU memory" in output.err, output.err
        return np.asarray(Image.open(tmp_path / "picture.png")).astype(int)

    expected = generate()
    monkeypatch.setattr(placement, "free_gpu_memory", lambda device: 0.001)
    assert np.abs(generate() - expected).max() <= 2  # the hooks change the last bits
    load_decoder.cache_clear()
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.is_accelerate_available", lambda: False)
    output = clipkit("generate", "a dog", "--decoder", decoder, "-o", tmp_path / "picture.png")
    assert output.code == 2 and "clipkit[decoders]" in output.err.splitlines()[-1]
