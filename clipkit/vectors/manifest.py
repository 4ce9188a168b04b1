"""The manifest of a published store: what it holds, and the checksums of its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clipkit.errors import LibraryDamaged
from clipkit.vectors.plan import EXACT, IndexPlan

FORMAT = 2
MANIFEST = "manifest.json"

Files = dict[str, tuple[int, str]]
"""Name -> (size in bytes, xxh3-128 in hex)."""


@dataclass(frozen=True)
class Segment:
    """A set of vectors that was written at once.

    `head`: xxh3-128 of what FAISS parses when the index is opened, checked before FAISS parses it.
    `nprobe`: inverted lists that a search probes. `recall`: the recall@10 of held-out text queries with it.
    """

    count: int
    files: Files
    head: str
    plan: IndexPlan = EXACT
    nprobe: int = 0
    recall: float = 1.0

    def file(self, folder: Path, kind: str) -> Path:
        """Return the path of the file of a kind: index, ids, lists or slots."""
        return folder / next(name for name in self.files if name.startswith(f"{kind}-"))


@dataclass(frozen=True)
class Manifest:
    """What a published store holds.

    `watermark`: the largest embedding id of the space at the time of writing.
    `revision`: the revision of the space at the time of writing.
    `main`: most of the vectors. `tail`: those added since `main` was built; always exact.
    `removed`: how many vectors of both searches must skip. `removed_files`: the file with their ids, if there are any.
    """

    space: str
    dimension: int
    watermark: int
    revision: int
    main: Segment
    tail: Segment | None = None
    removed: int = 0
    removed_files: Files = field(default_factory=dict)
    format: int = FORMAT

    @property
    def count(self) -> int:
        """The number of stored vectors, removed ones included."""
        return self.main.count + (self.tail.count if self.tail else 0)

    @property
    def files(self) -> Files:
        """All files of the store."""
        return {**self.main.files, **(self.tail.files if self.tail else {}), **self.removed_files}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder. Raises FileNotFoundError, or LibraryDamaged if it is invalid."""
    try:
        written = json.loads((folder / MANIFEST).read_text("utf-8"))
        if written["checksum"] != digest(written["manifest"]):
            raise ValueError("checksum mismatch")
        manifest = _parsed(written["manifest"])
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        raise LibraryDamaged(f"{folder / MANIFEST} is corrupt; run `clipkit check --repair`") from error
    return manifest


def _parsed(fields: dict[str, Any]) -> Manifest:
    if fields["format"] == 1:  # one exact segment
        main = Segment(fields["count"], fields["files"], fields["head"])
        return Manifest(fields["space"], fields["dimension"], fields["watermark"], fields["revision"], main)
    if fields["format"] != FORMAT:
        raise ValueError("unknown format")
    for name in ("main", "tail"):
        if fields[name] is not None:
            fields[name] = Segment(**{**fields[name], "plan": IndexPlan(**fields[name]["plan"])})
    return Manifest(**fields)


def manifest_text(manifest: Manifest) -> str:
    """Return the content of the manifest file."""
    fields = asdict(manifest)
    return json.dumps({"manifest": fields, "checksum": digest(fields)})


def describe_index(folder: Path) -> dict[str, Any] | None:
    """Return what a store's manifest says, as `clipkit info --json` prints it; None without a valid manifest."""
    try:
        manifest = read_manifest(folder)
    except (FileNotFoundError, LibraryDamaged):
        return None
    main = manifest.main
    return {
        "type": main.plan.factory,
        "vectors": manifest.count - manifest.removed,
        "tail": manifest.tail.count if manifest.tail else 0,
        "removed": manifest.removed,
        "nprobe": main.nprobe or None,
        "recall_at_10": main.recall,
    }


def checksum(path: Path) -> str:
    """Return the xxh3-128 of a file, in hex."""
    import xxhash

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def head_digest(index_file: Path, after: int) -> str:
    """Return the xxh3-128, in hex, of an index file without the `after` bytes of vectors at its end."""
    import xxhash

    with index_file.open("rb") as file:
        return xxhash.xxh3_128_hexdigest(file.read(index_file.stat().st_size - after))


def digest(manifest: dict) -> str:
    """Return the xxh3-128 of a manifest, in hex. A wrong watermark would hide vectors, and nothing else detects it."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())
