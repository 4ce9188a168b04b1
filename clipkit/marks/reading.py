"""What a picture's file says about who made it: clipkit's own marks, and those of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from PIL import Image

from clipkit.errors import UnreadableImage
from clipkit.images.decoding import open_picture
from clipkit.images.file_access import describe_os_error, open_regular
from clipkit.images.limits import Limits
from clipkit.images.opening import format_of, open_header, quiet
from clipkit.images.xmp import MAX_PACKET_BYTES
from clipkit.marks import watermark
from clipkit.marks.containers import Blocks, find_blocks
from clipkit.marks.credentials import Credentials, read_credentials, validated
from clipkit.marks.generators import generator_of
from clipkit.marks.provenance import Provenance
from clipkit.marks.sourcetype import says_made, term
from clipkit.marks.watermark import Detection
from clipkit.marks.writing import PNG_KEYWORD
from clipkit.marks.xmp import read_packets

WATERMARK_SIDE = 256
"""Pixels of the shorter side at which the watermark is looked for; larger pictures are decoded reduced."""

Kind = Literal["digital source type", "software", "provenance", "generator", "c2pa", "watermark"]

_SOFTWARE, _EXIF_IFD, _USER_COMMENT, _TIFF_C2PA = 0x0131, 0x8769, 0x9286, 0xCD41
_LONGEST_VALUE = 500
_MOST_VALUES = 10


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark. `where` it was found, such as "xmp", "png text", "exif", "c2pa" or "pixels"; `value` for people;
    `made` whether it says that a model made the picture, or a part of it."""

    kind: Kind
    where: str
    value: str
    made: bool

    def to_json(self) -> dict:
        """Plain data."""
        return {"kind": self.kind, "where": self.where, "value": self.value, "made": self.made}


@dataclass(frozen=True, slots=True)
class Marks:
    """All the marks of one picture.

    `provenance` is None but for clipkit's own pictures, `credentials` is None without a C2PA manifest; `watermark`
    tells the score also where the mark was not found.
    """

    path: Path
    found: tuple[Mark, ...]
    provenance: Provenance | None
    credentials: Credentials | None
    watermark: Detection

    @property
    def made(self) -> bool:
        """Whether a mark says that a model made the picture, or a part of it."""
        return any(mark.made for mark in self.found)

    @property
    def made_by(self) -> str | None:
        """The places of the marks that say so, as "xmp, png text, pixels"; None if none does."""
        return ", ".join(dict.fromkeys(mark.where for mark in self.found if mark.made)) or None

    @property
    def digital_source_types(self) -> tuple[str, ...]:
        """The values of IPTC's DigitalSourceType, wherever they stand."""
        return tuple(dict.fromkeys(mark.value for mark in self.found if mark.kind == "digital source type"))

    def to_json(self) -> dict:
        """Plain data, as `clipkit verify --json` prints it."""
        return {
            "path": str(self.path),
            "made": self.made,
            "marks": [mark.to_json() for mark in self.found],
            "provenance": self.provenance.to_json() if self.provenance else None,
            "c2pa": self.credentials.to_json() if self.credentials else None,
            "watermark": self.watermark.to_json(),
        }


def read_marks(path: str | Path, *, limits: Limits | None = None) -> Marks:
    """Every mark of a picture's file. Damaged metadata counts as far as it can be read.

    A C2PA manifest is validated if the C2PA library is installed. Raises UnreadableImage if the file yields no picture.
    """
    path = Path(path)
    picture = open_picture(path, shortest_side=WATERMARK_SIDE, limits=limits)
    return _examine(path, picture.image, validate=True)


verify = read_marks  # by the name of the command


def made_by(path: Path, image: Image.Image) -> str | None:
    """For the indexer, which has decoded the picture already: which marks say that a model made it, None if none does.

    `image`: its upright pixels, perhaps reduced to 64 or more. No signature is validated. Raises UnreadableImage if the
    file can no longer be opened.
    """
    return _examine(path, image, validate=False).made_by


def _examine(path: Path, image: Image.Image, *, validate: bool) -> Marks:
    file, _ = open_regular(path)
    with file:
        try:
            blocks = find_blocks(file)
            file.seek(0)
            format_name = format_of(file.read(64)) or ""
            comment = _by_pillow(file, format_name, blocks)
            credentials = read_credentials(blocks.manifest) if blocks.manifest is not None else None
            if credentials and validate:
                credentials = validated(credentials, file, format_name)
        except OSError as error:
            raise UnreadableImage(path, *describe_os_error(error)) from error
    return _collect(path, blocks, comment, credentials, watermark.detect(image))


@dataclass(frozen=True, slots=True)
class _Exif:
    software: str | None = None
    comment: str | None = None


def _by_pillow(file: BinaryIO, format_name: str, blocks: Blocks) -> _Exif:
    """EXIF's texts; and for formats that are not walked through, the XMP packet and manifest that Pillow finds."""
    with quiet():
        try:
            file.seek(0)
            image = open_header(file)
        except OSError as error:
            if error.errno:
                raise
            return _Exif()
        except Exception:  # RAW files, or damage that the decoder of the pixels overlooks
            return _Exif()
        try:
            if not blocks.xmp:
                blocks.xmp += [
                    p for p in (image.info.get("xmp"),) if isinstance(p, bytes) and len(p) < MAX_PACKET_BYTES
                ]
            if format_name == "TIFF" and isinstance(manifest := getattr(image, "tag_v2", {}).get(_TIFF_C2PA), bytes):
                blocks.manifest = manifest
            exif = image.getexif()
            return _Exif(_line(exif.get(_SOFTWARE)), _comment(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)))
        except Exception:  # Pillow's EXIF reader lets through whatever the damaged bytes lead to
            return _Exif()


def _comment(value: Any) -> str | None:
    """The text of EXIF's UserComment, whose first eight bytes name its encoding."""
    if not isinstance(value, bytes) or len(value) > MAX_PACKET_BYTES:
        return None
    encoding, text = value[:8], value[8:]
    if encoding.startswith(b"UNICODE"):
        # In the byte order of the EXIF block, says the standard; writers differ, and text has few NULs at odd places.
        return text.decode("utf-16-be" if text[:100:2].count(0) > text[1:100:2].count(0) else "utf-16-le", "replace")
    return (text if encoding in (b"ASCII\0\0\0", bytes(8)) else value).decode("utf-8", "replace")


def _collect(path: Path, blocks: Blocks, exif: _Exif, credentials: Credentials | None, detection: Detection) -> Marks:
    xmp = read_packets(blocks.xmp)
    texts = [("png text", keyword, text) for keyword, text in blocks.texts]
    texts += [("exif", "UserComment", exif.comment)] if exif.comment else []
    own = [("xmp", xmp.provenance)] if xmp.provenance else []
    found = [Mark("digital source type", "xmp", value, says_made(value)) for value in _lines(xmp.source_types)]
    found += [Mark("software", "xmp", name, False) for name in _lines(xmp.software)]
    found += [Mark("software", "exif", exif.software, False)] if exif.software else []
    for where, keyword, text in texts:
        if keyword == "Software":
            found += [Mark("software", where, name, False) for name in _lines([text])]
        elif keyword in (PNG_KEYWORD, "UserComment") and (provenance := Provenance.from_text(text)):
            own.append((where, provenance))
        elif generator := generator_of(keyword, text):
            found.append(Mark("generator", where, generator, True))
    found += [Mark("provenance", where, _summary(provenance), True) for where, provenance in own]
    if credentials:
        said = ", ".join((*credentials.actions[:5], *map(term, credentials.source_types)))
        claim = f"{credentials.generator or 'unknown'}: {said or 'no actions'} ({credentials.state})"
        found.append(Mark("c2pa", "c2pa", claim, credentials.says_made))
        types = _lines(credentials.source_types)
        found += [Mark("digital source type", "c2pa", value, says_made(value)) for value in types]
    if detection.found:
        found.append(Mark("watermark", "pixels", f"clipkit's, score {detection.score:.1f}", True))
    return Marks(path, tuple(found), own[0][1] if own else None, credentials, detection)


def _summary(provenance: Provenance) -> str:
    facts = provenance.to_json()
    return _line(", ".join(f"{key} {value!r}" for key, value in facts.items() if key != "software")) or ""


def _lines(values: Iterable[str]) -> list[str]:
    return [line for value in list(values)[:_MOST_VALUES] if (line := _line(value))]


def _line(value: Any) -> str | None:
    """A printable line, cut to a sensible length; None for what is no text."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    text = "".join(c if c.isprintable() else " " for c in value[:_LONGEST_VALUE])
    return " ".join(text.split()) or None
