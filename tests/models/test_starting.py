"""A model is loaded while the pictures that it will encode are still being found."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image
from test_clip_towers import PLAIN, make_checkpoint

from clipkit.errors import ModelNotAvailable
from clipkit.models import loading
from clipkit.models.loading import load_encoder
from clipkit.models.onnx import exports
from clipkit.models.starting import starting_encoder


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model that has not been exported, and a cache of its own."""
    monkeypatch.setattr(exports, "cache_folder", lambda: tmp_path / "cache")
    yield make_checkpoint(tmp_path / "model", PLAIN)
    loading.forget_encoders()


def test_an_exported_model_is_described_before_it_is_loaded(model):
    expected = load_encoder(str(model))
    needed = threading.Event()

    def load():
        assert needed.wait(60)
        return expected

    with starting_encoder(str(model), load) as starting:
        assert (starting.space, starting.dimension) == (expected.space, expected.dimension)
        assert starting.preprocessing == expected.preprocessing
        starting.start()
        needed.set()
        assert starting.wait() is starting.wait() is expected


def test_a_model_that_has_not_been_exported_is_loaded_first(model):
    threads = []

    def load():
        threads.append(threading.current_thread())
        return load_encoder(str(model))

    with starting_encoder(str(model), load) as starting:
        assert threads == [threading.main_thread()] and starting.dimension == 32
        assert starting.wait() is load_encoder(str(model))


def test_leaving_early_waits_for_the_model(model):
    load_encoder(str(model))
    ended = threading.Event()
    with pytest.raises(KeyboardInterrupt), starting_encoder(str(model), ended.set) as starting:
        starting.start()
        raise KeyboardInterrupt
    assert ended.is_set()


def test_a_model_is_loaded_only_for_new_pictures(model, clipkit, tmp_path, monkeypatch):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    loads = []
    monkeypatch.setattr("clipkit.indexing.run.load_encoder", lambda *a, **k: loads.append(a) or load_encoder(*a, **k))
    assert clipkit("index", tmp_path / "a.png", "--model", str(model)).code == 0
    assert len(loads) == 1
    shutil.copy(tmp_path / "a.png", tmp_path / "copy.png")
    output = clipkit("index", tmp_path / "copy.png", "--json")
    assert json.loads(output.out)["duplicates"] == 1 and json.loads(output.out)["timings_ms"]["load"] == 0
    (tmp_path / "a.png").unlink()
    assert json.loads(clipkit("index", "--remove-missing", "--json").out)["removed"] == 1 and len(loads) == 1
    assert clipkit("index", "--device", "cuda").code != 0, "a device that is not there is refused all the same"
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "copy.png")
    assert clipkit("index").code == 0 and len(loads) == 2


def damage(model: Path) -> None:
    """Leave an export that looks complete and cannot be opened, and no checkpoint to make it again from."""
    export = exports.find_export(str(model))
    (export.folder / export.facts["image"]).write_bytes(b"\0" * export.files[export.facts["image"]])
    shutil.rmtree(model)
    loading.forget_encoders()
    assert exports.find_export(str(model))


def test_nothing_is_lost_if_the_model_turns_out_to_be_damaged(model, clipkit, tmp_path):
    pictures = [tmp_path / "p" / f"{i}.png" for i in range(3)]
    pictures[0].parent.mkdir()
    for i, picture in enumerate(pictures):
        Image.new("RGB", (40, 30), (80 * i, 0, 0)).save(picture)
    assert clipkit("index", tmp_path / "p", "--model", str(model)).code == 0
    damage(model)
    pictures[0].unlink()
    Image.new("RGB", (40, 30), "green").save(tmp_path / "p" / "new.png")
    output = clipkit("index")
    assert output.code != 0 and output.err.count("\n") == 1 and str(model) in output.err
    info = json.loads(clipkit("info", "--json").out)
    assert (info["images"], info["models"]) == (3, {str(model): 3})


def test_a_damaged_model_is_not_added_to_a_library(model, clipkit, tmp_path):
    (tmp_path / "p").mkdir()
    Image.new("RGB", (40, 30), "green").save(tmp_path / "p" / "a.png")
    assert clipkit("index", tmp_path / "p", "--model", "tiny").code == 0
    load_encoder(str(model))
    damage(model)
    with pytest.raises(ModelNotAvailable):
        load_encoder(str(model))
    assert clipkit("index", "--model", str(model)).code != 0
    assert list(json.loads(clipkit("info", "--json").out)["models"]) == ["tiny"]
