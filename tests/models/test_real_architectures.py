"""clipkit computes the same vectors as open_clip, from the same files, in another process."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from models.open_clip_reference import CASES, HUB_ONLY, TEXTS

from clipkit.errors import ModelNotAvailable
from clipkit.images.decoding import open_picture
from clipkit.models.hub.locating import locate, on_disk
from clipkit.models.loading import forget_encoders, load_torch_encoder
from clipkit.models.reference import ModelRef
from clipkit.models.torch_encoder import OpenClipEncoder
from clipkit.vectors.unit import unit

RECOMMENDED = "ViT-B-32-256/datacomp_s34b_b86k"
XLM = "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k"
SIGLIP2 = "ViT-B-32-SigLIP2-256/webli"


@pytest.fixture(autouse=True)
def _models(real_models, monkeypatch):
    """Models on disk, and open_clip's architectures as small as their weights."""
    import open_clip

    monkeypatch.setenv("HF_HOME", str(real_models.home))
    for path in real_models.configs.glob("*.json"):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, path.stem, json.loads(path.read_text()))
    yield
    forget_encoders()


def encoded(encoder: OpenClipEncoder, pictures) -> np.ndarray:
    """Encode files like indexing, with clipkit's decoding and preprocessing."""
    size = encoder.preprocessing.size
    pixels = [encoder.preprocessing.pixels(open_picture(path, shortest_side=2 * size).image) for path in pictures]
    return encoder.encode_images(np.stack(pixels))


@pytest.mark.parametrize("model", [*CASES, HUB_ONLY])
def test_vectors_are_those_of_open_clip(real_models, model):
    encoder = load_torch_encoder(model, "cpu")
    images, texts = encoded(encoder, real_models.pictures), encoder.encode_texts(TEXTS)
    for what, ours in (("images", images), ("texts", texts)):
        theirs = real_models.vectors[f"{model} {what}"]
        assert ours.shape == theirs.shape and ours.dtype == np.float32
        assert np.abs(unit(ours) - unit(theirs)).max() < 1e-5, what
        assert np.allclose(np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1), rtol=1e-4), (
            "decoders need the norms"
        )
    distinct = unit(images) @ unit(images).T
    assert distinct[0, 1] < 1 - 1e-6, "otherwise equality would mean little"


def test_the_recommended_model_has_its_real_size(real_models):
    encoder = load_torch_encoder(RECOMMENDED, "cpu")
    assert sum(p.numel() for p in encoder.model.parameters()) == pytest.approx(151.3e6, rel=1e-3)
    assert (encoder.dimension, encoder.preprocessing.size) == (512, 256)


def test_quickgelu_and_preprocessing_are_those_of_the_checkpoint(real_models):
    """As read back from the models; the vectors show that they matter."""
    from open_clip.transformer import QuickGELU

    def activations(model: str) -> int:
        return sum(isinstance(module, QuickGELU) for module in load_torch_encoder(model, "cpu").model.modules())

    assert activations("ViT-L-14/openai") and activations(HUB_ONLY)
    assert not activations("ViT-L-14/laion2b_s32b_b82k")
    assert load_torch_encoder("ViT-L-14/laion2b_s32b_b82k", "cpu").preprocessing.mean == (0.5, 0.5, 0.5)
    own = load_torch_encoder(HUB_ONLY, "cpu").preprocessing
    assert (own.interpolation, own.resize_mode, own.fill_color, own.mean) == (
        "bilinear",
        "longest",
        127,
        (0.4, 0.5, 0.6),
    )
    assert load_torch_encoder("ViT-H-14-quickgelu/dfn5b", "cpu").preprocessing.resize_mode == "squash"


def test_a_tag_has_one_spelling():
    assert locate(ModelRef.resolve("ViT-L-14/laion2b-S32B-b82k")).model == "ViT-L-14/laion2b_s32b_b82k"


@pytest.mark.parametrize(
    ("model", "repository", "part"),
    [
        (SIGLIP2, "timm/ViT-B-32-SigLIP2-256", "tokenizer"),
        (XLM, "xlm-roberta-large", "tokenizer"),
        (RECOMMENDED, "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", "the model"),
    ],
)
def test_a_missing_file_is_an_error_of_one_line(real_models, tmp_path, monkeypatch, model, repository, part):
    """In a cache whose repository has no tokenizer, or no weights."""
    gone = ("tokenizer.json", "tokenizer_config.json") if part == "tokenizer" else ("open_clip_model.safetensors",)
    for folder in real_models.hub.iterdir():
        lacking = gone if folder.name == "models--" + repository.replace("/", "--") else ()
        shutil.copytree(
            folder, tmp_path / "hub" / folder.name, symlinks=True, ignore=shutil.ignore_patterns("blobs", *lacking)
        )
        (tmp_path / "hub" / folder.name / "blobs").symlink_to(folder / "blobs")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert not on_disk(ModelRef.of(model))
    with pytest.raises(ModelNotAvailable) as error:
        load_torch_encoder(model, "cpu")
    message = str(error.value)
    assert part in message and "\n" not in message
    assert f"clipkit models pull {model}" in message or "clipkit models import" in message


def test_loading_never_contacts_the_hub(real_models, monkeypatch):
    """With the network allowed, and a hub that records requests."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    import huggingface_hub.constants

    requests = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    for name, value in (("HF_HUB_OFFLINE", False), ("ENDPOINT", address)):
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    for model in ("ViT-L-14/openai", XLM, HUB_ONLY):
        assert load_torch_encoder(model, "cpu").encode_texts(["a dog"]).shape[0] == 1
    server.shutdown()
    assert requests == []
