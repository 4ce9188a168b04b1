"""Checkpoints saved by older versions of diffusers and transformers still load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

OLD = {
    "crop_size": 32,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 32,
}
"""The preprocessor_config.json of Stable Diffusion 1.5 and Stable unCLIP on the hub."""


@pytest.mark.parametrize("family", ["adapter_15", "unclip"])
@pytest.mark.parametrize("checked", [False, True])
def test_a_feature_extractor_loads_as_an_image_processor(clipkit, request, tmp_path: Path, family, checked):
    """`checked`: with the safety checker, which uses the feature extractor."""
    decoder, picture = tmp_path / "decoder", tmp_path / "red.png"
    if checked and family == "unclip":
        pytest.skip("Stable unCLIP has no safety checker")
    shutil.copytree(request.getfixturevalue(family), decoder)
    (decoder / "feature_extractor").mkdir(exist_ok=True)
    (decoder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(OLD))
    index = json.loads((decoder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPFeatureExtractor"]
    if checked:
        write_safety_checker(decoder / "safety_checker")
        index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        index["requires_safety_checker"] = True
    (decoder / "model_index.json").write_text(json.dumps(index))
    Image.new("RGB", (40, 30), (200, 30, 30)).save(picture)
    output = clipkit("generate", "a dog", "--like", picture, "--decoder", decoder, "-o", tmp_path / "a.png")
    assert output.code == 0, output.err
    assert "Loading" not in output.err, "no progress bars of other libraries on stderr"


def write_safety_checker(folder: Path) -> None:
    """Write one that never triggers: its thresholds are out of reach."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {
        "hidden_size": 32,
        "image_size": 32,
        "patch_size": 8,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=32))
    for thresholds in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        thresholds.data.fill_(2.0)
    checker.save_pretrained(folder)
