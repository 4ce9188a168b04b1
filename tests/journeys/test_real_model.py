"""The recommended model at its real size, with random weights, on real photographs: offline, and from a hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from models.hub_server import Hub
from real_models import RealModels

from clipkit import Library
from clipkit.models.concepts import CONCEPTS_PER_REPORT
from clipkit.models.loading import forget_encoders
from clipkit.models.registry import recommended

RECOMMENDED = recommended().id


@pytest.fixture
def photos(shared: Path, tmp_path: Path) -> Path:
    """Six of the photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in sorted((shared / "photos").glob("*.jpg"))[::35]:
        shutil.copy(photo, folder)
    return folder


@pytest.fixture(autouse=True)
def few_concepts(monkeypatch):
    """Replace the 2,436 concepts of the match decision, which take this text tower minutes on one core."""
    monkeypatch.setattr(
        "clipkit.searching.library_matcher.concepts",
        lambda: tuple(f"a thing {i}" for i in range(CONCEPTS_PER_REPORT // 2)),
    )
    yield
    forget_encoders()


def test_offline_from_the_hub_cache(real_models: RealModels, clipkit, photos, tmp_path, monkeypatch):
    """Without --model the recommended one is used, because it is on this disk, and nothing is asked."""
    monkeypatch.setenv("HF_HOME", str(real_models.home))
    report = json.loads(clipkit("index", photos, "--json", "--batch-size", "6").out)
    assert (report["model"], report["added"], report["failed"]) == (RECOMMENDED, 6, 0)
    searched = json.loads(clipkit("search", "a photograph of an anchor", "--json").out)
    assert searched["model"] == RECOMMENDED and len(searched["hits"]) == 6
    for photo in list(photos.iterdir())[:2]:
        hit = json.loads(clipkit("search", "--like", photo, "--json", "-k", "1").out)["hits"][0]
        assert hit["path"] == str(photo) and hit["score"] > 0.999
    assert f"{RECOMMENDED}: 6 of 6 pictures (100%)" in clipkit("info").out
    again = json.loads(clipkit("index", photos, "--json").out)
    assert (again["model"], again["embedded"]) == (RECOMMENDED, 0), "an existing library keeps its model"
    with Library.open(tmp_path / "indexes/default") as library:
        ids = library.catalog.searchable_ids(RECOMMENDED)
        vectors = library.catalog.vectors(ids)
    assert vectors.shape == (6, 512) and np.isfinite(vectors).all()


def test_yes_downloads_a_model_from_the_hub(real_models, clipkit, scene_folder, tmp_path, monkeypatch):
    import huggingface_hub.constants

    snapshot = next((real_models.hub / "models--somebody--her-own-clip" / "snapshots").iterdir())
    hub = Hub({"somebody/her-own-clip": {path.name: path for path in snapshot.iterdir()}})
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    space, folder = "hf-hub:somebody/her-own-clip", scene_folder / "2024"
    refused = clipkit("index", folder, "--model", space)
    assert refused.code == 2 and f"`clipkit models pull {space}`" in refused.err and hub.requests == []
    report = json.loads(clipkit("index", folder, "--model", space, "--yes", "--json").out)
    assert report["model"] == space and report["added"] > 10
    asked = len(hub.requests)
    assert clipkit("search", "a dog", "--json").code in (0, 1) and clipkit("index").code == 0
    assert len(hub.requests) == asked, "local files are used without asking the hub"
    shutil.rmtree(tmp_path / "hf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-exports"))  # or the ONNX export would be used
    forget_encoders()  # as in a new process
    gone = clipkit("search", "a dog")
    assert gone.code == 2 and f"`clipkit models pull {space}`" in gone.err and len(hub.requests) == asked
    hub.close()
