"""Content Credentials (C2PA, https://c2pa.org/specifications): read, validate and sign.

Manifests are read here in plain Python. Validating and signing need the C2PA library: `pip install 'clipkit[c2pa]'`.
Neither uses the network.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from clipkit.errors import ClipkitError
from clipkit.images.opening import format_of
from clipkit.marks.cbor import BadCbor, decode
from clipkit.marks.containers import sub_boxes
from clipkit.marks.original import Edited
from clipkit.marks.provenance import Provenance
from clipkit.marks.source_type import TRAINED, says_generated

CERTIFICATE_VARIABLE, KEY_VARIABLE = "CLIPKIT_C2PA_CERT", "CLIPKIT_C2PA_KEY"
NOT_VALIDATED = "not validated"

_OFFLINE = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_ORIGINAL = "original"
_DONE = {"c2pa.created": "generated", "c2pa.edited": "edited", "c2pa.resized": "enlarged"}
_MAX_MANIFESTS, _MAX_BOXES = 100, 1000
_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "HEIF": "image/heic", "AVIF": "image/avif"}
# The DER object identifiers of the key types that C2PA allows -> C2PA's names for their algorithms.
_ALGORITHMS = (
    (bytes.fromhex("2a8648ce3d030107"), "es256"),
    (bytes.fromhex("2b81040022"), "es384"),
    (bytes.fromhex("2b81040023"), "es512"),
    (bytes.fromhex("2a864886f70d0101"), "ps256"),
    (bytes.fromhex("2b6570"), "ed25519"),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The content of the active manifest.

    `generator`: the program that made the claim.
    `actions`: such as "c2pa.created".
    `source_types`: the DigitalSourceType of the actions.
    `state`: "Trusted"; "Valid" (correct signature, signer not on a trust list); "Invalid" (file changed, or signature
    wrong); or "not validated". `reason` explains it.
    """

    generator: str | None = None
    actions: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()
    state: str = NOT_VALIDATED
    reason: str | None = None

    @property
    def says_generated(self) -> bool:
        """Whether one of the actions says that a model generated the picture or a part of it."""
        return any(map(says_generated, self.source_types))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "actions": list(self.actions), "source_types": list(self.source_types)}


@dataclass(frozen=True, slots=True)
class Certificate:
    """A signer: PEM files of the certificate chain, the signer's certificate first, and of the private key."""

    chain: Path
    key: Path

    @classmethod
    def from_environment(cls) -> Certificate | None:
        """Return the one set in `CLIPKIT_C2PA_CERT` and `CLIPKIT_C2PA_KEY`; None if neither is. Raises ClipkitError."""
        chain, key = os.environ.get(CERTIFICATE_VARIABLE), os.environ.get(KEY_VARIABLE)
        if not chain and not key:
            return None
        if not (chain and key):
            raise ClipkitError(f"set both {CERTIFICATE_VARIABLE} and {KEY_VARIABLE}, or neither of them")
        return cls(Path(chain).expanduser(), Path(key).expanduser())


def read_credentials(store: bytes) -> Credentials:
    """Read the active manifest of a store (JUMBF boxes) and those of its parents, without validation; never raises.

    The store is a box of manifests, the active one last. Each has a claim and a box of assertions; these include the
    actions and the ingredients, one of which may be the parent, with its own manifest in the store.
    """
    manifests = {label: boxes for _, stored in _labelled(store) for label, boxes in _labelled(stored)}
    labels = list(manifests)[-1:]
    generator: str | None = None
    actions: list[dict[str, Any]] = []
    for _ in range(_MAX_MANIFESTS):
        if not labels:
            break
        for label, content in _labelled(manifests.pop(labels.pop(), b"")):
            if label.startswith("c2pa.claim") and generator is None:
                generator = _generator(_cbor(content))
            elif label == "c2pa.assertions":
                for name, assertion in _labelled(content):
                    if name.startswith("c2pa.actions"):
                        actions += _dicts(_as_dict(_cbor(assertion)).get("actions"))
                    elif name.startswith("c2pa.ingredient") and (parent := _parent(_as_dict(_cbor(assertion)))):
                        labels.append(parent)
    if generator is None and not actions:
        return Credentials(reason="the manifest is corrupt, too large, or of an unknown version")
    return Credentials(
        generator,
        tuple(text for action in actions if (text := _text(action.get("action")))),
        tuple(dict.fromkeys(text for action in actions if (text := _text(action.get("digitalSourceType"))))),
    )


def _labelled(boxes: bytes) -> list[tuple[str, bytes]]:
    """Return (label, inner boxes) of the labelled JUMBF boxes in these bytes."""
    found: list[tuple[str, bytes]] = []
    for kind, content in sub_boxes(boxes):
        if kind == b"jumb" and len(found) < _MAX_BOXES:
            description = next(sub_boxes(content), (b"", b""))
            if description[0] == b"jumd":
                label = description[1][17:].partition(b"\0")[0].decode("utf-8", "replace")
                found.append((label, content[8 + len(description[1]) :]))
    return found


def _cbor(boxes: bytes) -> Any:
    for kind, content in sub_boxes(boxes):
        if kind == b"cbor":
            try:
                return decode(content)
            except BadCbor:
                return None
    return None


def _generator(claim: Any) -> str | None:
    claim = _as_dict(claim)
    info = claim.get("claim_generator_info")
    about = next(iter(_dicts(info)), {}) if isinstance(info, list) else _as_dict(info)
    if name := _text(about.get("name")):
        return f"{name} {_text(about.get('version')) or ''}".strip()
    return _text(claim.get("claim_generator"))


def _parent(ingredient: dict[str, Any]) -> str | None:
    """Return the label of an ingredient's manifest if the ingredient is the picture's parent."""
    if ingredient.get("relationship") != "parentOf":
        return None
    manifest = _as_dict(ingredient.get("activeManifest") or ingredient.get("c2pa_manifest"))
    return (_text(manifest.get("url")) or "").rpartition("/")[2] or None


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    """Return a printable line of at most 300 characters, or None."""
    if not isinstance(value, str):
        return None
    return "".join(c if c.isprintable() else " " for c in value[:300]).strip() or None


def validate(credentials: Credentials, file: BinaryIO, format_name: str) -> Credentials:
    """Add the C2PA library's verdict on the file to its credentials; never raises. `format_name`: "JPEG", "PNG", ..."""
    try:
        import c2pa
    except ImportError:
        return replace(credentials, reason="pip install 'clipkit[c2pa]' to validate the signature")
    try:
        file.seek(0)
        context = c2pa.Context(settings=c2pa.Settings.from_dict(_OFFLINE))
        with c2pa.Reader(_MIME.get(format_name, f"image/{format_name.lower()}"), file, context=context) as reader:
            state = reader.get_validation_state() or NOT_VALIDATED
            failures = _as_dict(_as_dict(reader.get_validation_results()).get("activeManifest")).get("failure")
        codes = dict.fromkeys(code for failure in _dicts(failures) if (code := _text(failure.get("code"))))
        return replace(credentials, state=state, reason=", ".join(codes) or None)
    except Exception as error:  # corrupt bytes make this native library raise all kinds of errors
        return replace(credentials, state="Invalid", reason=_text(" ".join(str(error).split())) or "corrupt")


def sign(
    data: bytes,
    format_name: str,
    provenance: Provenance,
    certificate: Certificate,
    *,
    source_type: str = TRAINED,
    edited: Edited | None = None,
) -> bytes:
    """Return the file's bytes with a signed manifest that says that a model generated the picture, or edited one.

    `format_name`: "JPEG", "PNG" or "WEBP".
    `edited`: names the original, which becomes the manifest's parent ingredient, with the manifests that it carries. If
    no model made anything of the picture, the manifest says that it was resized.
    Raises ClipkitError if the C2PA library or a file of the certificate is missing, or if C2PA does not allow the
    certificate.
    """
    try:
        import c2pa
    except ImportError:
        raise ClipkitError(
            f"{CERTIFICATE_VARIABLE} is set, but signing needs: pip install 'clipkit[c2pa]' (or unset it)"
        ) from None
    name, _, version = provenance.software.partition(" ")
    software = {"name": name, "version": version}
    action = _action(edited)
    done = {
        "action": action,
        "digitalSourceType": source_type,
        "softwareAgent": software,
    }
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_ORIGINAL]}}
    manifest = {
        "claim_generator_info": [software],
        "title": f"{_DONE[action]} with clipkit",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [opened, done] if edited else [done]}}],
    }
    chain, key = _pem(certificate.chain), _pem(certificate.key)
    signed = io.BytesIO()
    try:
        context = c2pa.Context(settings=c2pa.Settings.from_dict(_OFFLINE))
        info = c2pa.C2paSignerInfo(_algorithm(certificate.key, key), chain.encode(), key.encode(), None)
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest), context=context) as builder:
            if edited:
                _add_original(builder, edited)
            builder.sign(signer, _MIME[format_name], io.BytesIO(data), signed)
    except c2pa.C2paError as error:
        raise ClipkitError(
            f"C2PA cannot sign with {certificate.chain} and {certificate.key}: {' '.join(str(error).split())}"
        ) from error
    return signed.getvalue()


def _action(edited: Edited | None) -> str:
    if edited is None:
        return "c2pa.created"
    return "c2pa.edited" if edited.invented else "c2pa.resized"


def _add_original(builder: Any, edited: Edited) -> None:
    """Add the original as the parent; as its pixels, if C2PA does not know its format or it was given as pixels."""
    data = edited.data.read_bytes() if isinstance(edited.data, Path) else edited.data
    media_type = _MIME.get(format_of(data[:64]) or "") if data else None
    if data is None or media_type is None:
        out = io.BytesIO()
        edited.pixels.save(out, "PNG")
        data, media_type = out.getvalue(), _MIME["PNG"]
    ingredient = {"title": edited.name, "relationship": "parentOf", "label": _ORIGINAL}
    builder.add_ingredient(json.dumps(ingredient), media_type, io.BytesIO(data))


def _pem(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeError) as error:
        raise ClipkitError(f"the certificate or key {path} cannot be read as PEM: {error}") from error


def _algorithm(path: Path, key: str) -> str:
    """Return C2PA's name of a private key's algorithm, from the object identifier in it."""
    body = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", key, re.DOTALL)
    try:
        content = base64.b64decode(body[1]) if body else b""
    except binascii.Error:
        content = b""
    for identifier, algorithm in _ALGORITHMS:
        if identifier in content[:100]:
            return algorithm
    raise ClipkitError(f"{path} does not contain a private key for C2PA: use EC, RSA or Ed25519, in PKCS #8 and PEM")
