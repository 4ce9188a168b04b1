"""The registry agrees with open_clip, and every id refers to one model."""

from __future__ import annotations

import json

import pytest

from clipkit.models import checkpoint
from clipkit.models.onnx.clip_towers import ClipArchitecture
from clipkit.models.reference import ModelRef
from clipkit.models.registry import HUB_PREFIX, entries, entry, recommended

IDS = (
    "tiny",
    "ViT-B-32-256/datacomp_s34b_b86k",
    "ViT-B-16-SigLIP2/webli",
    "ViT-B-32-SigLIP2-256/webli",
    "ViT-L-14/openai",
    "PE-Core-B-16/meta",
    "PE-Core-L-14-336/meta",
    "ViT-H-14/laion2b_s32b_b79k",
    "ViT-SO400M-16-SigLIP2-256/webli",
    "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k",
    "ViT-bigG-14/laion2b_s39b_b160k",
)
PUBLISHED = [e for e in entries() if not e.bundled]


def test_all_entries_are_complete():
    assert {e.id for e in entries()} == set(IDS) and len(entries()) == len(IDS) and entries()[0].id == "tiny"
    assert all(e.licence and e.dimension > 0 and e.image_size > 0 and e.summary and e.languages for e in entries())
    assert [e.id for e in entries() if e.recommended] == [recommended().id] == ["ViT-B-32-256/datacomp_s34b_b86k"]
    assert all(e.imagenet_zero_shot and e.coco_text_to_image_r1 for e in PUBLISHED)
    assert all(e.megabytes == pytest.approx(4 * e.parameters_millions, rel=0.03) for e in PUBLISHED), (
        "four bytes per parameter"
    )


@pytest.mark.parametrize("known", PUBLISHED, ids=lambda e: e.id)
def test_entries_agree_with_open_clip(known):
    import open_clip

    config = open_clip.get_model_config(known.open_clip_name)
    details = open_clip.get_pretrained_cfg(known.open_clip_name, known.tag)
    assert details["hf_hub"] == f"{known.hub}/"
    assert config["embed_dim"] == known.dimension and config["vision_cfg"]["image_size"] == known.image_size
    assert config["text_cfg"].get("hf_tokenizer_name", "") == known.tokenizer
    assert config["text_cfg"].get("hf_model_name", "") == known.text_model
    settings = {key: value for key, value in details.items() if key not in ("url", "hf_hub", "quick_gelu")}
    is_plain = ClipArchitecture.of(config) is not None
    defaults = checkpoint._PREPROCESSING_DEFAULTS
    assert known.plain_clip == (is_plain and defaults | settings == defaults)
    assert known.quick_gelu == bool(details.get("quick_gelu"))


@pytest.mark.parametrize("known", [e for e in PUBLISHED if not e.text_model], ids=lambda e: e.id)
def test_parameters_and_image_size_are_those_of_the_architecture(known):
    """On the meta device, without memory for weights. A transformers text tower would need files of the hub."""
    import open_clip
    import torch

    from clipkit.models.checkpoint import _quiet

    with _quiet(), torch.device("meta"):
        model = open_clip.create_model(known.open_clip_name, load_weights=False, device="meta")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(known.parameters_millions, abs=0.05)
    assert model.visual.image_size in (known.image_size, (known.image_size, known.image_size))


def test_only_freely_licensed_models_are_listed():
    """DFN, MetaCLIP and MobileCLIP are restricted to research or non-commercial use; users can still name them."""
    assert {e.licence for e in entries()} <= {"Apache-2.0", "MIT"}
    assert not [e.id for e in entries() if any(name in e.id.lower() for name in ("dfn", "metaclip", "mobileclip"))]


def test_models_and_decoders_list_each_other():
    from clipkit.generation import registry as decoders

    for known in entries():
        assert set(known.decoders) == {d.id for d in decoders.entries() if known.id in d.spaces}, known.id
    for decoder in decoders.entries():
        assert all(entry(space) for space in decoder.spaces), decoder.id
        if decoder.repository:
            assert decoder.licence and 0 < decoder.tower_gb < decoder.download_gb and decoder.memory_gb, decoder.id


def test_entries_are_frozen_and_become_plain_data():
    with pytest.raises(AttributeError):
        entries()[0].dimension = 1  # type: ignore[misc]
    rows = [e.to_json() for e in entries()]
    assert json.loads(json.dumps(rows)) == rows
    assert rows[1]["open_clip_name"] == "ViT-B-32-256" and rows[1]["tag"] == "datacomp_s34b_b86k"


def resolved(text: str) -> str:
    return ModelRef.resolve(text).id


def test_a_model_has_one_resolved(tmp_path, monkeypatch):
    assert resolved("ViT-L-14/laion2b-S32B-b82k") == "ViT-L-14/laion2b_s32b_b82k"
    assert resolved("tiny") == "tiny" and resolved("my-own") == "my-own"
    assert resolved(f"{HUB_PREFIX}Some-Body/Her-CLIP") == f"{HUB_PREFIX}Some-Body/Her-CLIP"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "open_clip_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolved("model") == resolved("./model") == str(tmp_path / "model")
    assert entry("model") is None


def test_a_canonical_id_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    """An imported model "model" is not the folder of that name."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "open_clip_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert ModelRef.of("model") == ModelRef("model")
    assert ModelRef.of(resolved("model")) == ModelRef.resolve("model")
    assert ModelRef.of("tiny") == ModelRef.resolve("tiny") and ModelRef.of("tiny").folder
