"""What was published of a space's vectors, and the checksums that tell whether it is still that."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from clipkit.errors import LibraryDamaged

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a published store holds. `watermark` is the largest embedding id of the space when it was written,
    `revision` the space's revision then; `files` are name -> [bytes, xxh3-128 in hex]; `head` is the xxh3-128 of what
    FAISS wrote before the vectors, which is read before it is trusted."""

    space: str
    dimension: int
    count: int
    watermark: int
    revision: int
    files: dict[str, tuple[int, str]]
    head: str
    format: int = FORMAT


def read_manifest(folder: Path) -> Manifest:
    """What was published in a folder. Raises FileNotFoundError, or LibraryDamaged if it makes no sense."""
    try:
        written = json.loads((folder / MANIFEST).read_text("utf-8"))
        if written["checksum"] != digest(written["manifest"]):
            raise ValueError("the checksum is another")
        manifest = Manifest(**written["manifest"])
        if manifest.format != FORMAT:
            raise ValueError("the format is another")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise LibraryDamaged(f"{folder / MANIFEST} is torn; run `clipkit check --repair`") from error
    return manifest


def manifest_text(manifest: Manifest) -> str:
    """The content of its file."""
    fields = asdict(manifest)
    return json.dumps({"manifest": fields, "checksum": digest(fields)})


def checksum(path: Path) -> str:
    """xxh3-128 of a file, in hex."""
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def head_digest(index_file: Path, count: int, dimension: int) -> str:
    """xxh3-128 of an index file but for the two-byte numbers at its end, in hex."""
    import xxhash

    with index_file.open("rb") as file:
        return xxhash.xxh3_128_hexdigest(file.read(index_file.stat().st_size - 2 * count * dimension))


def digest(manifest: dict) -> str:
    """xxh3-128 of a manifest, in hex: a wrong watermark would hide vectors, and no other file would tell."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())
