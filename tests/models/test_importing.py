"""Importing models: folders, the hub's cache, files of weights, pickles."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from models.hub_server import Hub
from models.open_clip_reference import HUB_ONLY, TEXTS

from clipkit.errors import ModelNotAvailable
from clipkit.models.hub.importing import import_model, imported, remove_import
from clipkit.models.hub.locating import imported_folder, locate, models_folder, on_disk
from clipkit.models.hub.pulling import pull_model
from clipkit.models.loading import forget_encoders, load_encoder
from clipkit.models.onnx import exports
from clipkit.models.reference import ModelRef

RN50, XLM = "RN50/openai", "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k"
REPOSITORY = "models--somebody--her-own-clip"


@pytest.fixture(autouse=True)
def _isolated(real_models, monkeypatch, tmp_path):
    """An empty hub cache, an empty folder of imports, and architectures as small as the weights."""
    import open_clip

    monkeypatch.setenv("CLIPKIT_MODELS", str(tmp_path / "models"))
    for path in real_models.configs.glob("*.json"):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, path.stem, json.loads(path.read_text()))
    yield
    forget_encoders()


def as_pickle(weights: Path, target: Path) -> Path:
    """Save the weights with torch, in the wrappers that training scripts add."""
    import torch
    from safetensors.torch import load_file

    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in load_file(weights).items()}}, target)
    return target


def refused(path: Path, model: str = "", **options) -> str:
    with pytest.raises(ModelNotAvailable) as error:
        import_model(path, model, **options)
    assert "\n" not in str(error.value)
    assert not models_folder().is_dir() or not list(models_folder().iterdir()), "no partial import is left behind"
    return str(error.value)


def encodes_like_open_clip(real_models, model: str, reference: str) -> bool:
    return np.allclose(
        load_encoder(model, "cpu").encode_texts(TEXTS), real_models.vectors[f"{reference} texts"], atol=1e-4
    )


def test_a_repository_in_a_hub_cache(real_models, clipkit):
    shown = clipkit("models", "import", real_models.hub / REPOSITORY)
    assert shown.code == 0 and HUB_ONLY in shown.out
    assert imported() == [HUB_ONLY] and encodes_like_open_clip(real_models, HUB_ONLY, HUB_ONLY)
    assert any(row["id"] == HUB_ONLY and row["on_disk"] for row in json.loads(clipkit("models", "list", "--json").out))
    exported = exports.folder_of(HUB_ONLY)
    assert exported.is_dir()
    assert clipkit("models", "forget", HUB_ONLY).code == 0 and not on_disk(ModelRef.of(HUB_ONLY))
    assert not exported.exists(), "it would still be used, and take up disk space"
    assert clipkit("models", "forget", HUB_ONLY).code == 2


def test_a_checkpoint_folder_is_imported_under_its_name(real_models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(next((real_models.hub / REPOSITORY / "snapshots").iterdir()), tmp_path / "her-clip")
    assert import_model("her-clip") == "her-clip"
    shutil.rmtree(tmp_path / "her-clip")
    assert encodes_like_open_clip(real_models, "her-clip", HUB_ONLY)
    assert import_model(imported_folder("her-clip"), "another") == "another"
    assert remove_import("her-clip") and imported() == ["another"]


def test_a_file_of_weights_of_an_open_clip_model(real_models, tmp_path):
    """QuickGELU, which is only in open_clip's table, is written to the configuration."""
    weights = real_models.weights("timm/resnet50_clip.openai")
    shutil.copy(weights, tmp_path / "weights.safetensors")
    assert import_model(tmp_path / "weights.safetensors", RN50) == RN50
    assert json.loads((imported_folder(RN50) / "open_clip_config.json").read_text())["model_cfg"]["quick_gelu"]
    assert encodes_like_open_clip(real_models, RN50, RN50)


def test_a_model_with_its_own_tokenizer(real_models, tmp_path):
    folder = tmp_path / "CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k"
    repository = "models--laion--CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k"
    shutil.copytree(next((real_models.hub / repository / "snapshots").iterdir()), folder)
    assert "the tokenizer of" in refused(folder) and "xlm-roberta-large" in refused(folder)
    texts = next((real_models.hub / "models--xlm-roberta-large" / "snapshots").iterdir())
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(texts / name, folder / name)
    assert import_model(folder) == XLM, "recognised by the repository's name"
    shutil.rmtree(folder)
    assert locate(ModelRef.of(XLM)).text_model == imported_folder(XLM) / "text_model"
    assert encodes_like_open_clip(real_models, XLM, XLM)


def test_a_pickle_needs_the_flag_and_is_converted_to_safetensors(real_models, tmp_path, clipkit):
    file = as_pickle(real_models.weights("timm/resnet50_clip.openai"), tmp_path / "open_clip_pytorch_model.bin")
    assert "--allow-pickle" in refused(file, RN50)
    output = clipkit("models", "import", file, "--as", RN50)
    assert output.code == 2 and output.err.count("\n") == 1
    assert clipkit("models", "import", file, "--as", RN50, "--allow-pickle").code == 0
    assert locate(ModelRef.of(RN50)).weights.suffix == ".safetensors"
    assert encodes_like_open_clip(real_models, RN50, RN50)


def test_pickles_in_a_folder_or_the_cache_are_not_loaded(real_models, tmp_path, monkeypatch):
    folder = tmp_path / "pickled"
    shutil.copytree(next((real_models.hub / REPOSITORY / "snapshots").iterdir()), folder)
    as_pickle(folder / "open_clip_model.safetensors", folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelNotAvailable, match="--allow-pickle"):
        load_encoder(str(folder), "cpu")
    from models.open_clip_reference import put_in_hub

    put_in_hub(
        tmp_path / "hf" / "hub",
        "timm/resnet50_clip.openai",
        {"open_clip_pytorch_model.bin": folder / "open_clip_pytorch_model.bin"},
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # an earlier export would still be used
    with pytest.raises(ModelNotAvailable, match="--allow-pickle"):
        load_encoder(RN50, "cpu")


def test_an_allowed_pickle_is_pulled_and_converted_to_safetensors(real_models, tmp_path, monkeypatch):
    import huggingface_hub.constants

    file = as_pickle(real_models.weights("timm/resnet50_clip.openai"), tmp_path / "open_clip_pytorch_model.bin")
    hub = Hub({"timm/resnet50_clip.openai": {file.name: file}})
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ModelNotAvailable, match="--allow-pickle"):
        pull_model(RN50)
    assert pull_model(RN50, allow_pickle=True).converted
    hub.close()
    assert locate(ModelRef.of(RN50)).weights.suffix == ".safetensors"
    assert encodes_like_open_clip(real_models, RN50, RN50)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle ran')",)


def test_a_pickle_cannot_run_code(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": {"a": Evil()}}, protocol=2))
    assert "more than tensors" in refused(tmp_path / "evil.pt", RN50, allow_pickle=True)


def test_models_that_cannot_be_imported(real_models, tmp_path):
    weights = real_models.weights("timm/resnet50_clip.openai")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no weights")
    shutil.copy(weights, tmp_path / "w.safetensors")
    (tmp_path / "truncated.safetensors").write_bytes(weights.read_bytes()[:10_000])
    assert "there is no file or folder" in refused(tmp_path / "nowhere")
    assert "--as" in refused(tmp_path / "w.safetensors")
    assert "cannot tell which model" in refused(tmp_path / "empty")
    assert "has no open_clip_model.safetensors" in refused(tmp_path / "empty", RN50)
    assert "not a safetensors file" in refused(tmp_path / "notes.txt", RN50)
    assert "is truncated or" in refused(tmp_path / "truncated.safetensors", RN50)
    assert "models list" in refused(tmp_path / "w.safetensors", "RN50/no_such_tag")
    assert "cannot be loaded" in refused(tmp_path / "w.safetensors", "ViT-L-14/openai"), (
        "weights of another architecture"
    )
    assert "cannot be the name" in refused(tmp_path / "w.safetensors", "./somewhere")
    assert "tiny cannot be the name" in refused(tmp_path / "w.safetensors", "tiny")
