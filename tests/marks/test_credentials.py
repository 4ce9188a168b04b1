"""C2PA manifests: signed with a test certificate, read back and validated; and read without the C2PA library."""

from __future__ import annotations

import io
import json
import sys

import pytest
from PIL import Image

from clipkit import ClipkitError, Provenance, save_marked, verify
from clipkit.marks.credentials import CERTIFICATE_VARIABLE, KEY_VARIABLE, NOT_VALIDATED, Certificate
from clipkit.marks.reading import find_evidence
from clipkit.marks.source_type import TRAINED

from .certificates import write_certificate
from .packets import chunk, encoded

HOW = Provenance("a cat", "tiny", 7, created_at="2026-01-02T03:04:05+00:00")
SUFFIXES = (".png", ".jpg", ".webp")


@pytest.fixture(autouse=True)
def _library() -> None:
    pytest.importorskip("c2pa", reason="the C2PA library is not installed: pip install 'clipkit[c2pa]'")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.effect_noise((256, 192), 70).convert("RGB")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_signed_picture_is_read_back_and_validated(picture, certificate, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_marked(picture, path, HOW, certificate=certificate)
    marks = verify(path)
    assert marks.credentials is not None
    assert marks.credentials.state == "Valid" and marks.credentials.generator == HOW.software
    assert marks.credentials.actions == ("c2pa.created",) and marks.credentials.source_types == (TRAINED,)
    assert marks.credentials.reason == "signingCredential.untrusted", "the signer is not on a trust list"
    assert marks.provenance == HOW and marks.watermark.found and "c2pa" in (marks.evidence or "")


@pytest.mark.parametrize("key_type", ["RSA", "Ed25519"])
def test_other_types_of_keys(picture, tmp_path, key_type):
    save_marked(picture, tmp_path / "a.png", HOW, certificate=write_certificate(tmp_path, key_type))
    assert verify(tmp_path / "a.png").credentials.state == "Valid"  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_changed_file_is_invalid(picture, certificate, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_marked(picture, path, HOW, certificate=certificate)
    data = path.read_bytes()
    if suffix == ".png":  # chunks have checksums
        path.write_bytes(data[:-12] + chunk(b"tEXt", b"Comment\0added later") + data[-12:])
    else:
        assert data.count(b"a cat") >= 2
        path.write_bytes(data.replace(b"a cat", b"a dog"))  # in the metadata, which the signature covers too
    credentials = verify(path).credentials
    assert credentials is not None and credentials.state == "Invalid" and credentials.reason


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_the_library_the_manifest_is_read_and_not_validated(
    picture, certificate, tmp_path, suffix, monkeypatch
):
    path = tmp_path / f"a{suffix}"
    save_marked(picture, path, HOW, certificate=certificate)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    credentials = verify(path).credentials
    assert credentials is not None and credentials.says_generated and credentials.generator == HOW.software
    assert credentials.state == NOT_VALIDATED and "clipkit[c2pa]" in str(credentials.reason)
    with Image.open(path) as image:
        assert "c2pa" in str(find_evidence(path, image).where), "the indexer finds it without validation"
    with pytest.raises(ClipkitError, match=r"pip install 'clipkit\[c2pa\]'"):
        save_marked(picture, path, HOW, certificate=certificate)


def test_the_certificate_can_be_set_in_the_environment(picture, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv(CERTIFICATE_VARIABLE, str(certificate.chain))
    with pytest.raises(ClipkitError, match="both"):
        save_marked(picture, tmp_path / "a.png", HOW)
    monkeypatch.setenv(KEY_VARIABLE, str(certificate.key))
    save_marked(picture, tmp_path / "a.png", HOW)
    assert verify(tmp_path / "a.png").credentials is not None
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "nowhere.pem"))
    with pytest.raises(ClipkitError, match="nowhere.pem cannot be read"):
        save_marked(picture, tmp_path / "b.png", HOW)
    monkeypatch.setenv(KEY_VARIABLE, str(certificate.chain))
    with pytest.raises(ClipkitError, match="does not contain a private key"):
        save_marked(picture, tmp_path / "b.png", HOW)
    other = write_certificate(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, str(other.key))
    with pytest.raises(ClipkitError, match="C2PA cannot sign with"):
        save_marked(picture, tmp_path / "b.png", HOW)
    assert not (tmp_path / "b.png").exists()


def signed_by_other_tool(data: bytes, certificate: Certificate, actions: list[dict]) -> bytes:
    """Return a PNG file signed by another tool; without actions, as opened and edited by it."""
    import c2pa

    definition = {
        "claim_generator_info": [{"name": "Other Tool", "version": "9"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}] if actions else [],
    }
    info = c2pa.C2paSignerInfo("es256", certificate.chain.read_bytes(), certificate.key.read_bytes(), None)
    out = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(definition)) as builder:
        if not actions:
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        builder.sign(signer, "image/png", io.BytesIO(data), out)
    return out.getvalue()


def test_manifests_of_other_tools(certificate, tmp_path):
    plain, path = encoded("PNG"), tmp_path / "a.png"
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    path.write_bytes(
        signed_by_other_tool(plain, certificate, [{"action": "c2pa.created", "digitalSourceType": source}])
    )
    camera = verify(path)
    assert not camera.generated and camera.credentials is not None and camera.credentials.source_types == (source,)
    assert camera.credentials.generator == "Other Tool 9" and [m.kind for m in camera.found][0] == "c2pa"
    made = signed_by_other_tool(plain, certificate, [{"action": "c2pa.created", "digitalSourceType": TRAINED}])
    path.write_bytes(made)
    assert verify(path).evidence == "c2pa"
    path.write_bytes(signed_by_other_tool(made, certificate, []))
    later = verify(path)
    assert later.generated and later.credentials is not None and later.credentials.state == "Valid"
    assert later.credentials.actions == ("c2pa.opened", "c2pa.created"), "includes those of the parent"
