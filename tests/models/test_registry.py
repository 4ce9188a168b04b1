"""The registry says what open_clip says, and every id means one thing."""

from __future__ import annotations

import json

import pytest

from clipkit.models.registry import HUB_PREFIX, canonical_id, entries, entry, recommended

NAMED = (
    "tiny", "ViT-B-32-256/datacomp_s34b_b86k", "ViT-B-16-SigLIP2/webli", "ViT-B-32-SigLIP2-256/webli",
    "ViT-L-14/openai", "PE-Core-B-16/meta", "PE-Core-L-14-336/meta", "ViT-H-14/laion2b_s32b_b79k",
    "ViT-SO400M-16-SigLIP2-256/webli", "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k",
    "ViT-bigG-14/laion2b_s39b_b160k",
)  # fmt: skip
REAL = [e for e in entries() if not e.bundled]


def test_it_is_whole():
    assert {e.id for e in entries()} == set(NAMED) and len(entries()) == len(NAMED) and entries()[0].id == "tiny"
    assert all(e.licence and e.dimension > 0 and e.image_size > 0 and e.summary and e.languages for e in entries())
    assert [e.id for e in entries() if e.recommended] == [recommended().id] == ["ViT-B-32-256/datacomp_s34b_b86k"]
    assert all(e.imagenet_zero_shot and e.coco_text_to_image_r1 for e in REAL)
    assert all(e.megabytes == pytest.approx(4 * e.parameters_millions, rel=0.03) for e in REAL), "four bytes each"


@pytest.mark.parametrize("space", REAL, ids=lambda e: e.id)
def test_what_it_says_is_what_open_clip_has(space):
    import open_clip

    config = open_clip.get_model_config(space.open_clip_name)
    details = open_clip.get_pretrained_cfg(space.open_clip_name, space.tag)
    assert details["hf_hub"] == f"{space.hub}/"
    assert config["embed_dim"] == space.dimension and config["vision_cfg"]["image_size"] == space.image_size
    assert config["text_cfg"].get("hf_tokenizer_name", "") == space.tokenizer
    assert config["text_cfg"].get("hf_model_name", "") == space.text_model


@pytest.mark.parametrize("space", [e for e in REAL if not e.text_model], ids=lambda e: e.id)
def test_parameters_and_size_are_those_of_the_architecture(space):
    """Built without memory for its weights; a text tower of transformers would need the hub for its configuration."""
    import open_clip
    import torch

    from clipkit.models.checkpoint import _quiet

    with _quiet(), torch.device("meta"):
        model = open_clip.create_model(space.open_clip_name, load_weights=False, device="meta")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(space.parameters_millions, abs=0.05)
    assert model.visual.image_size in (space.image_size, (space.image_size, space.image_size))


def test_what_is_not_free_for_all_uses_is_not_offered():
    """DFN, MetaCLIP and MobileCLIP are for research, or not for commercial use: who wants them names them himself."""
    assert {e.licence for e in entries()} <= {"Apache-2.0", "MIT"}
    assert not [e.id for e in entries() if any(name in e.id.lower() for name in ("dfn", "metaclip", "mobileclip"))]


def test_spaces_and_decoders_name_each_other():
    from clipkit.generation import registry as decoders

    for space in entries():
        assert set(space.decoders) == {d.id for d in decoders.entries() if space.id in d.spaces}, space.id
    for decoder in decoders.entries():
        assert all(entry(space) for space in decoder.spaces), decoder.id
        if decoder.repository:
            assert decoder.licence and 0 < decoder.tower_gb < decoder.download_gb and decoder.memory_gb, decoder.id


def test_entries_are_frozen_and_plain_data():
    with pytest.raises(AttributeError):
        entries()[0].dimension = 1  # type: ignore[misc]
    rows = [e.to_json() for e in entries()]
    assert json.loads(json.dumps(rows)) == rows
    assert rows[1]["open_clip_name"] == "ViT-B-32-256" and rows[1]["tag"] == "datacomp_s34b_b86k"


def test_ids(tmp_path, monkeypatch):
    assert canonical_id("ViT-L-14/laion2b-S32B-b82k") == "ViT-L-14/laion2b_s32b_b82k"
    assert canonical_id("tiny") == "tiny" and canonical_id("my-own") == "my-own"
    assert canonical_id(f"{HUB_PREFIX}Some-Body/Her-CLIP") == f"{HUB_PREFIX}Some-Body/Her-CLIP"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "open_clip_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert canonical_id("model") == canonical_id("./model") == str(tmp_path / "model")
    assert entry("model") is None
