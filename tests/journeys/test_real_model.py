"""The recommended model, in its real size with random weights, on real photographs, offline and from a hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from real_models import RealModels
from spaces.hub_server import Hub

from clipkit import Library
from clipkit.models.concepts import CHUNK
from clipkit.models.encoder import forget_encoders
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
    """The bank of the match decision is 2,436 texts, minutes of work for this text tower on one core."""
    monkeypatch.setattr("clipkit.searching.searcher.concepts", lambda: tuple(f"a thing {i}" for i in range(CHUNK // 2)))
    yield
    forget_encoders()


def test_offline_from_the_hubs_cache(real_models: RealModels, clipkit, photos, tmp_path, monkeypatch):
    """No --model: the recommended one is on this disk, so it is taken, and nobody is asked."""
    monkeypatch.setenv("HF_HOME", str(real_models.home))
    report = json.loads(clipkit("index", photos, "--json", "--batch-size", "6").out)
    assert (report["space"], report["added"], report["failed"]) == (RECOMMENDED, 6, 0)
    searched = json.loads(clipkit("search", "a photograph of an anchor", "--json").out)
    assert searched["space"] == RECOMMENDED and len(searched["hits"]) == 6
    for photo in list(photos.iterdir())[:2]:
        hit = json.loads(clipkit("search", "--like", photo, "--json", "-k", "1").out)["hits"][0]
        assert hit["path"] == str(photo) and hit["score"] > 0.999
    assert f"{RECOMMENDED}: 6 of 6 pictures (100%)" in clipkit("info").out
    again = json.loads(clipkit("index", photos, "--json").out)
    assert (again["space"], again["embedded"]) == (RECOMMENDED, 0), "an existing library keeps its space"
    with Library.open(tmp_path / "indexes/default") as library:
        ids = library.catalog.searchable_ids(RECOMMENDED)
        vectors = library.catalog.vectors(ids)
    assert vectors.shape == (6, 512) and np.isfinite(vectors).all()


def test_a_model_that_is_asked_for_with_yes_comes_from_the_hub(
    real_models, clipkit, scene_folder, tmp_path, monkeypatch
):
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
    assert report["space"] == space and report["added"] > 10
    asked = len(hub.requests)
    assert clipkit("search", "a dog", "--json").code in (0, 1) and clipkit("index").code == 0
    assert len(hub.requests) == asked, "what is here is used without asking the hub"
    shutil.rmtree(tmp_path / "hf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-exports"))  # an export would go on serving
    forget_encoders()  # a later process
    gone = clipkit("search", "a dog")
    assert gone.code == 2 and f"`clipkit models pull {space}`" in gone.err and len(hub.requests) == asked
    hub.close()
