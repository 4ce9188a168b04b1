"""Routes from a query to a decoder of another model: the stored embedding, encoding again, or a bridge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipkit import Library


@pytest.fixture(scope="module")
def spaces(tmp_path_factory) -> dict[str, Path]:
    """Checkpoints: `small`, with random weights and the Kandinsky checkpoint's dimension; `turned`, the bundled model
    rotated by an orthogonal matrix, with a little noise."""
    from derived_spaces import derive, random_space, rotation

    from clipkit.models.registry import BUNDLED

    folder = tmp_path_factory.mktemp("spaces")
    return {
        "small": random_space(folder / "small"),
        "turned": derive(BUNDLED / "clip", folder / "turned", rotation(256), noise=0.01),
    }


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, spaces) -> Path:
    """Libraries `small` and `turned` over 260 scenes; tests copy them."""
    from clipkit.samples.photos import write_samples

    folder = tmp_path_factory.mktemp("routes")
    write_samples(folder / "photos", 260, size=64)
    for name, space in spaces.items():
        with Library.open_or_create(folder / "indexes" / name, model=str(space)) as library:
            library.index([folder / "photos"], workers=1)
    return folder


@pytest.fixture
def photo(libraries) -> Path:
    return sorted((libraries / "photos").rglob("*.jpg"))[7]


@pytest.fixture
def copied(libraries, tmp_path) -> Path:
    shutil.copytree(libraries / "indexes", tmp_path / "indexes")
    return tmp_path / "indexes"


def _towerless(kandinsky: Path, folder: Path, **says: str) -> Path:
    """Copy a Kandinsky checkpoint without its image tower; the embedding of a zero image was never cached for it."""
    shutil.copytree(kandinsky, folder)
    config = folder / "prior" / "prior" / "config.json"
    config.write_text(config.read_text() + "\n" * (1 + len(folder.name)))
    facts = json.loads((folder / "clipkit.json").read_text())
    (folder / "clipkit.json").write_text(json.dumps(facts | says))
    (folder / "prior" / "image_encoder").rename(folder / "hidden")
    return folder


def _routes(output) -> list[tuple[str, str]]:
    return [(leg["route"], leg["through"]) for leg in json.loads(output.out)[0]["route"]]


def test_a_picture_that_the_library_holds_in_the_decoders_space_needs_no_image_tower(
    clipkit, copied, photo, kandinsky, spaces, tmp_path
):
    decoder = _towerless(kandinsky, tmp_path / "same", space=str(spaces["small"]))
    (decoder / "hidden").rename(decoder / "prior" / "image_encoder")
    words = clipkit("generate", "a dog", "--decoder", decoder, "--name", "small", "--json")
    assert words.code == 0 and _routes(words)[0][0] == "same model"  # also caches the embedding of a zero image
    shutil.rmtree(decoder / "prior" / "image_encoder")
    ask = ("generate", "--like", photo, "--decoder", decoder, "--name", "small", "--seed", "1", "--explain", "--json")
    output = clipkit(*ask)
    assert output.code == 0, output.err
    assert _routes(output) == [("same model", f"its embedding in the library, in {spaces['small'].resolve()}")]
    assert "route:" in output.err and "same model" in output.err
    with Library.open(copied / "small") as library:
        assert library.generated()[-1].route[0]["route"] == "same model"
    other = tmp_path / "other.png"
    Image.effect_noise((64, 64), 90).convert("RGB").save(other)
    output = clipkit("generate", "--like", other, "--decoder", decoder, "--name", "small", "--json")
    assert output.code == 0 and _routes(output) == [("same model", f"the image tower of {spaces['small'].resolve()}")]


def test_without_the_decoders_image_tower_pictures_take_a_bridge(clipkit, copied, photo, kandinsky, tmp_path):
    decoder = _towerless(kandinsky, tmp_path / "bridged")
    ask = ("generate", "--like", photo, "--decoder", decoder, "--name", "small", "--seed", "1", "--json")
    refused = clipkit(*ask)
    assert refused.code == 2 and "clipkit bridge fit --to" in refused.err and refused.err.count("\n") == 1
    (decoder / "hidden").rename(decoder / "prior" / "image_encoder")
    direct = clipkit(*ask)
    assert _routes(direct) == [("re-encoded", "the decoder's own image tower")]
    fitted = clipkit("bridge", "fit", "--to", decoder, "--name", "small", "--json")
    assert fitted.code == 0, fitted.err
    report = json.loads(fitted.out)
    assert report["target"] == str(decoder) and report["held_out"] == round(0.2 * report["pictures"])
    shutil.rmtree(decoder / "prior" / "image_encoder")
    _forget_nothing(decoder)
    bridged = clipkit(*ask)
    assert bridged.code == 0, bridged.err
    assert [route for route, _ in _routes(bridged)] == ["bridge"] and "in the library" in _routes(bridged)[0][1]
    mixed = clipkit("generate", "a dog", *ask[1:])
    assert [route for route, _ in _routes(mixed)] == ["re-encoded", "bridge"]
    again = clipkit(*ask)
    first, second = (Path(json.loads(o.out)[0]["path"]).read_bytes() for o in (bridged, again))
    assert first == second


def _forget_nothing(decoder: Path) -> None:
    from clipkit.generation import decoder_files, registry
    from clipkit.generation.loading import load_conditioner

    decoder_files.unconditional_embedding_file(registry.resolve_decoder(str(decoder))).unlink()
    load_conditioner.cache_clear()


def test_a_bridge_between_rotated_spaces_barely_changes_the_pictures(clipkit, copied, photo, tmp_path):
    fitted = clipkit("bridge", "fit", "--to", "tiny", "--name", "turned")
    assert fitted.code == 0 and "recall@10" in fitted.out
    (report,) = json.loads(clipkit("bridge", "list", "--name", "turned", "--json").out)
    assert report["cosine"] > 0.9 and report["recall_1"] > 0.8 and report["norm_error"] < 0.1

    def generate(*query: str | Path) -> np.ndarray:
        path = tmp_path / "generated.png"
        settings = ("--decoder", "tiny", "--name", "turned", "--seed", "5", "--size", "64")
        output = clipkit("generate", *query, *settings, "-o", path, "--json")
        assert output.code == 0, output.err
        routes.append(_routes(output)[0][0])
        return np.asarray(Image.open(path)).astype(float)

    routes: list[str] = []
    direct, bridged = generate("--like", photo), generate("--like", photo, "--route", "bridge")
    another = generate("--like", sorted(photo.parent.parent.rglob("*.jpg"))[-1])
    assert routes == ["re-encoded", "bridge", "re-encoded"]
    assert np.abs(direct - bridged).mean() < 0.6 * np.abs(direct - another).mean()
    assert clipkit("bridge", "remove", "--to", "tiny", "--name", "turned").out == "removed 1 bridge\n"
    assert clipkit("bridge", "list", "--name", "turned").out == ""


def test_text_is_encoded_again_by_the_decoders_own_tower(clipkit, copied):
    output = clipkit("generate", "a whale", "--decoder", "tiny", "--name", "turned", "--steps", "2", "--json")
    assert _routes(output) == [("re-encoded", "the decoder's text tower and prior")]


@pytest.mark.parametrize(
    "wrong",
    [
        ("bridge", "fit", "--to", "no-such-model"),
        ("bridge", "fit", "--to", "kandinsky-2-2"),
        ("bridge", "fit", "--to", "tiny", "--from", "ViT-L-14/openai"),
        ("bridge", "fit", "--to", "tiny", "--name", "nobody"),
        ("bridge", "fit", "--to", "tiny", "--sample", "49"),
        ("bridge", "remove"),
        ("bridge", "remove", "--to", "tiny", "--all"),
        ("generate", "--like", "PHOTO", "--decoder", "tiny", "--route", "bridge"),
    ],
)
def test_mistakes_are_one_line(clipkit, copied, photo, wrong):
    arguments = [str(photo) if word == "PHOTO" else word for word in wrong]
    output = clipkit(*arguments, *(() if "--name" in arguments else ("--name", "turned")))
    assert output.code == 2 and output.err.startswith("clipkit: ") and output.err.count("\n") == 1, output.err


def test_a_bridge_needs_enough_pictures(clipkit, photo):
    from clipkit.models.registry import BUNDLED

    assert clipkit("index", photo.parent.parent / "2023", "--exclude", "*[0-8].jpg", "--model", "tiny").code == 0
    output = clipkit("bridge", "fit", "--to", BUNDLED / "clip")
    assert output.code == 2 and "at least 50 pictures" in output.err and output.err.count("\n") == 1, output.err


def test_a_library_without_its_decoder_says_how_to_get_it(clipkit, copied):
    for ask in (("generate", "a dog"), ("search", "a dog", "--generate", "always")):
        output = clipkit(*ask, "--name", "small")
        assert output.code == 2 and output.err.count("\n") == 1, output.err
        assert "clipkit generate --decoder kandinsky-2-2" in output.err and "15.9 GB" in output.err


def test_a_bridge_that_cannot_be_fitted_or_is_missing_says_what_to_do(clipkit, copied, photo):
    fit = clipkit("bridge", "fit", "--to", "kandinsky-2-2", "--name", "turned")
    assert "`clipkit decoders pull kandinsky-2-2`" in fit.err and "`clipkit models pull ViT-bigG-14/" in fit.err
    ask = clipkit("generate", "--like", photo, "--decoder", "tiny", "--route", "bridge", "--name", "turned")
    assert ask.err == "clipkit: this library has no bridge to tiny: fit a bridge with `clipkit bridge fit --to tiny`\n"
    assert fit.code == ask.code == 2 and fit.err.count("\n") == 1


def test_a_bridge_to_a_space_of_the_library_is_refused(clipkit, copied, spaces):
    output = clipkit("bridge", "fit", "--to", spaces["turned"], "--name", "turned")
    assert output.code == 2 and "already" in output.err


def test_the_same_in_python(copied):
    with Library.open(copied / "turned") as library:
        fitted = library.fit_bridge("tiny", sample=60)
        assert fitted.report.pictures == 60 and [b.target for b in library.bridges()] == ["tiny"]
        assert library.remove_bridges() == 1 and library.bridges() == []


def test_the_image_tower_can_come_from_an_imported_model(
    clipkit, copied, photo, kandinsky, spaces, tmp_path, monkeypatch
):
    """If the decoder has none and the library is in another space; nothing is exported to ONNX for it."""
    from clipkit.models.onnx import exports

    monkeypatch.setenv("CLIPKIT_MODELS", str(tmp_path / "models"))
    assert clipkit("models", "import", spaces["small"], "--as", "her-own").code == 0
    decoder = _towerless(kandinsky, tmp_path / "imported", space="her-own")
    hidden = decoder / "hidden"
    hidden.rename(decoder / "prior" / "image_encoder")
    assert (
        clipkit("generate", "a dog", "--decoder", decoder, "--name", "turned").code == 0
    )  # caches the embedding of a zero image
    shutil.rmtree(decoder / "prior" / "image_encoder")
    output = clipkit("generate", "--like", photo, "--decoder", decoder, "--name", "turned", "--json")
    assert output.code == 0, output.err
    assert _routes(output) == [("re-encoded", "the image tower of her-own")]
    fitted = clipkit("bridge", "fit", "--to", decoder, "--name", "turned", "--sample", "60", "--json")
    assert fitted.code == 0 and json.loads(fitted.out)["target"] == "her-own", fitted.err
    assert not exports.folder_of("her-own").exists()
