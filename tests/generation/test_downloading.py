"""Downloading decoders from a hub on a local server."""

from __future__ import annotations

from pathlib import Path

import pytest
from models.hub_server import Hub
from PIL import Image

from clipkit.generation import decoder_files, registry
from clipkit.generation.loading import load_conditioner, load_decoder

ENTRY = registry.resolve_decoder("ip-adapter-sd15")
UNET = "unet/diffusion_pytorch_model.safetensors"


def tree(folder: Path) -> dict[str, Path]:
    """Return the files of a folder, by their names in a repository."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hub(adapter_15, tmp_path, monkeypatch):
    """Serve a small Stable Diffusion 1.5 and its adapter, among files that are not needed."""
    import huggingface_hub.constants

    base = {
        name: path for name, path in tree(adapter_15).items() if not name.startswith(("models/", "tokenizer-files/"))
    }
    adapter = {name: path for name, path in tree(adapter_15).items() if name.startswith("models/")}
    adapter[ENTRY.adapter_file] = adapter.pop("models/ip-adapter_random.safetensors")
    server = Hub(
        {
            ENTRY.repository: {**base, "v1-5-pruned.safetensors": b"the same again", "README.md": b"# A card"},
            ENTRY.adapter: {**adapter, "models/ip-adapter-plus_sd15.safetensors": b"another"},
        }
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # A cached decoder may come from another test's hub.
    load_decoder.cache_clear()
    load_conditioner.cache_clear()
    yield server
    server.close()


def small(*query: str | Path, path: Path) -> tuple[str | Path, ...]:
    return ("generate", *query, "--decoder", ENTRY.id, "--size", "32", "--steps", "2", "-o", path)


def test_a_pulled_decoder_works_without_the_hub(hub, clipkit, tmp_path):
    pulled = clipkit("decoders", "pull", ENTRY.id)
    assert pulled.code == 0 and f"about {ENTRY.download_gb:g} GB" in pulled.err and ENTRY.id in pulled.out
    requests = len(hub.requests)
    assert "nothing to download" in clipkit("decoders", "pull", ENTRY.id).out
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    made = clipkit(*small("a dog", "--like", tmp_path / "red.png", path=tmp_path / "a.png"))
    assert made.code == 0, made.err
    assert len(hub.requests) == requests, "files on disk are used without a request"
    assert not hub.fetched("v1-5-pruned") and not hub.fetched("plus") and not hub.fetched("README")


def test_text_alone_downloads_no_image_tower_and_the_size_is_announced(hub, clipkit, tmp_path):
    made = clipkit(*small("a dog", path=tmp_path / "a.png"))
    assert made.code == 0, made.err
    assert "downloading the decoder ip-adapter-sd15 first, about 2.8 GB" in made.err
    assert not hub.fetched("image_encoder") and decoder_files.image_tower_folder(ENTRY) is None


def test_only_a_decoder_that_is_named_is_downloaded(hub, clipkit, scene_folder):
    assert clipkit("index", scene_folder / "2023", "--model", "tiny").code == 0
    hub.requests.clear()
    assert clipkit("search", "a dog", "--generate", "never").code in (0, 1)
    clipkit("generate", "a dog", "--steps", "1")
    assert hub.requests == []


@pytest.mark.parametrize("trouble", ["other bytes", "broken", "dead", "no repository", "offline"])
def test_a_failed_download_is_explained_in_one_line(hub, clipkit, monkeypatch, trouble):
    hint = {
        "other bytes": "does not match",
        "broken": "answered with 503",
        "dead": "could not download",
        "no repository": "has no decoder",
        "offline": "HF_HUB_OFFLINE",
    }[trouble]
    if trouble == "other bytes":
        hub.other_bytes[UNET] = bytes(len(hub.content(ENTRY.repository, UNET)))
    elif trouble == "broken":
        hub.broken = True
    elif trouble == "dead":
        hub.close()
    elif trouble == "no repository":
        del hub.repositories[ENTRY.adapter]
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    output = clipkit("decoders", "pull", ENTRY.id)
    line = output.err.splitlines()[-1]
    assert output.code == 2 and line.startswith("clipkit: ") and hint in line, output.err
    assert len(output.err.splitlines()) == (1 if trouble == "offline" else 2), "the size, then the error"
    assert not decoder_files.on_disk(ENTRY)
