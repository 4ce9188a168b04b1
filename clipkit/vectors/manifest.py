"""The manifest of a published store: what it holds, and the checksums of its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from clipkit.errors import LibraryDamaged

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a published store holds.

    `watermark`: the largest embedding id of the space at the time of writing.
    `revision`: the revision of the space at the time of writing.
    `files`: name -> (size in bytes, xxh3-128 in hex).
    `head`: xxh3-128 of what FAISS writes before the vectors, checked before FAISS parses it.
    """

    space: str
    dimension: int
    count: int
    watermark: int
    revision: int
    files: dict[str, tuple[int, str]]
    head: str
    format: int = FORMAT


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder. Raises FileNotFoundError, or LibraryDamaged if it is invalid."""
    try:
        written = json.loads((folder / MANIFEST).read_text("utf-8"))
        if written["checksum"] != digest(written["manifest"]):
            raise ValueError("checksum mismatch")
        manifest = Manifest(**written["manifest"])
        if manifest.format != FORMAT:
            raise ValueError("unknown format")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise LibraryDamaged(f"{folder / MANIFEST} is corrupt; run `clipkit check --repair`") from error
    return manifest


def manifest_text(manifest: Manifest) -> str:
    """Return the content of the manifest file."""
    fields = asdict(manifest)
    return json.dumps({"manifest": fields, "checksum": digest(fields)})


def checksum(path: Path) -> str:
    """Return the xxh3-128 of a file, in hex."""
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def head_digest(index_file: Path, count: int, dimension: int) -> str:
    """Return the xxh3-128, in hex, of an index file without the two-byte vector components at its end."""
    import xxhash

    with index_file.open("rb") as file:
        return xxhash.xxh3_128_hexdigest(file.read(index_file.stat().st_size - 2 * count * dimension))


def digest(manifest: dict) -> str:
    """Return the xxh3-128 of a manifest, in hex. A wrong watermark would hide vectors, and nothing else detects it."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())
