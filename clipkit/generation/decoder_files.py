"""Which files a decoder needs, where they are (its folder, or the hub's cache), and their download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clipkit.errors import DecoderNotAvailable, DownloadFailed
from clipkit.generation.registry import DecoderEntry
from clipkit.models.hub.cache import is_offline, snapshot
from clipkit.progress import ProgressCallback

SAMPLED_BYTES = 1 << 20
"""Bytes hashed at each end of a file of weights: its header of names and shapes, and some weights."""

INDEX = "model_index.json"
"""diffusers' list of the parts of a pipeline."""

_PARTS_WITH_WEIGHTS = {
    "kandinsky-2-2": ("unet", "movq"),
    "ip-adapter": ("unet", "vae", "text_encoder", "text_encoder_2"),
    "stable-unclip": ("unet", "vae", "text_encoder", "image_normalizer"),
}
_TEXT_FILES = (".json", ".txt", ".model")


def pipeline_folder(entry: DecoderEntry) -> Path:
    """Return the folder with the decoder's model_index.json. Raises DecoderNotAvailable if it is not on disk."""
    return entry.folder or _snapshot(entry, entry.repository)


def prior_folder(entry: DecoderEntry) -> Path:
    """Return the folder with the prior's model_index.json. Raises DecoderNotAvailable if it is not on disk."""
    return entry.folder / "prior" if entry.folder else _snapshot(entry, entry.prior)


def adapter_file(entry: DecoderEntry) -> Path:
    """Return the path of an IP-Adapter's weights.

    In a folder that does not name them it is the only file ip-adapter*.safetensors. Raises DecoderNotAvailable.
    """
    if not entry.folder:
        found = _cached(entry.adapter, entry.adapter_file)
        if not found:
            raise _not_on_disk(entry)
        return found
    named = [entry.folder / entry.adapter_file] if entry.adapter_file else []
    files = [path for path in named or sorted(entry.folder.rglob("ip-adapter*.safetensors")) if path.is_file()]
    if len(files) != 1:
        raise DecoderNotAvailable(
            f'{entry.folder} has {len(files) or "no"} files ip-adapter*.safetensors: name one as "adapter_file" in its '
            "clipkit.json"
        )
    return files[0]


def image_tower_folder(entry: DecoderEntry) -> Path | None:
    """Return the folder of a published decoder's image tower, None if it is not on disk."""
    try:
        if entry.family == "kandinsky-2-2":
            candidates = [prior_folder(entry) / "image_encoder"]
        elif entry.family == "ip-adapter":
            adapter = adapter_file(entry)
            # Both published adapters for ViT-H/14 use the tower beside the older of them.
            shared = adapter.parent.parent / "models" / "image_encoder"
            own = [adapter.parent / "image_encoder", adapter.parent / "models" / "image_encoder"]
            candidates = [shared] if entry.adapter else [*own, shared, pipeline_folder(entry) / "image_encoder"]
        else:
            candidates = [pipeline_folder(entry) / "image_encoder"]
    except DecoderNotAvailable:
        return None
    return next((folder for folder in candidates if _has_weights(folder)), None)


def on_disk(entry: DecoderEntry) -> bool:
    """Return whether everything needed to generate from text is on disk."""
    return not missing_parts(entry)


def missing_parts(entry: DecoderEntry) -> list[str]:
    """Return the parts that generating from text needs and that are not on disk."""
    if entry.folder:
        return [] if (entry.folder / INDEX).is_file() else [INDEX]
    try:
        pipeline = pipeline_folder(entry)
        index = json.loads((pipeline / INDEX).read_text("utf-8"))
        parts = [part for part in _PARTS_WITH_WEIGHTS[entry.family] if index.get(part)]
        absent = [part for part in parts if not _has_weights(pipeline / part)]
        if entry.family == "kandinsky-2-2":
            prior = prior_folder(entry)
            absent += [part for part in ("prior", "text_encoder") if not _has_weights(prior / part)]
            if cached_unconditional_embedding(entry) is None and image_tower_folder(entry) is None:
                absent.append("image_encoder")
        elif entry.family == "ip-adapter":
            adapter_file(entry)
    except (DecoderNotAvailable, OSError, ValueError):
        return [entry.repository]
    return absent


def download(entry: DecoderEntry, *, with_tower: bool = True, progress: ProgressCallback | None = None) -> None:
    """Download the files that are not on disk, with or without the image tower; half precision where it is published.

    Resumes interrupted downloads and verifies checksums. Raises DecoderNotAvailable.
    """
    from clipkit.models.hub import downloading

    if entry.folder:
        return
    if is_offline():
        raise DecoderNotAvailable(
            f"the decoder {entry.id} is not on this machine, and HF_HUB_OFFLINE forbids downloads: unset it, or name a "
            "FOLDER with the decoder's files"
        )
    wanted = []
    try:
        with downloading.translate_download_errors(f"decoder {entry.id}", "name a FOLDER with its files"):
            for repository in filter(None, (entry.repository, entry.prior)):
                files = {file.name: file for file in downloading.listing(repository)}
                if INDEX not in files:
                    raise DecoderNotAvailable(f"{repository} has no {INDEX}: it is not a diffusers pipeline")
                index = json.loads(downloading.download(files[INDEX]).read_text("utf-8"))
                wanted += [files[name] for name in pipeline_files(files, index, with_tower=with_tower)]
            if entry.adapter:
                files = {file.name: file for file in downloading.listing(entry.adapter)}
                if entry.adapter_file not in files:
                    raise DecoderNotAvailable(f"{entry.adapter} has no {entry.adapter_file}")
                wanted += [files[name] for name in adapter_files(files, entry.adapter_file, with_tower=with_tower)]
            downloading.download_all(wanted, f"the decoder {entry.id}", progress)
    except (DownloadFailed, ValueError) as error:
        raise DecoderNotAvailable(str(error)) from error


def pipeline_files(names: Iterable[str], index: dict[str, Any], *, with_tower: bool) -> list[str]:
    """Return which of a repository's files a pipeline loads: configurations and one set of safetensors for each part.

    `index`: the content of its model_index.json, which names the parts; repositories contain others too.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, _ = name.rpartition("/")
        folders.setdefault(folder, []).append(name)
    parts = [part for part, kind in index.items() if isinstance(kind, list) and any(kind)]
    chosen = [INDEX]
    for part in parts:
        if part == "image_encoder" and not with_tower:
            continue
        members = folders.get(part, ())
        chosen += [name for name in members if name.endswith(_TEXT_FILES)]
        weights = [name for name in members if name.endswith(".safetensors") and ".non_ema." not in name]
        half = [name for name in weights if ".fp16." in name or ".fp16-" in name]
        chosen += half or weights
    return sorted(chosen)


def adapter_files(names: Iterable[str], weights: str, *, with_tower: bool) -> list[str]:
    """Return which of an adapter repository's files to download: its weights, and the image tower of ViT-H/14."""
    tower = [n for n in names if n.startswith("models/image_encoder/") and n.endswith((".json", ".safetensors"))]
    return [weights, *(tower if with_tower else ())]


def weight_variant(folder: Path, device: str) -> str | None:
    """Return the variant of the weights that diffusers should load from a pipeline's folder.

    "fp16" on a GPU, or where only half precision is on disk; else None.
    """
    parts = [part for part in folder.iterdir() if part.is_dir()]
    half = [part for part in parts if any(part.glob("*.fp16*.safetensors"))]
    only = any(part_variant(part) for part in half)
    return "fp16" if only or (half and device == "cuda") else None


def part_variant(part: Path) -> str | None:
    """Return "fp16" for a part's folder with weights in half precision only, as `download` leaves it; else None."""
    weights = [path.name for path in part.glob("*.safetensors")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None


def unconditional_embedding_file(entry: DecoderEntry) -> Path:
    """Return where Kandinsky's unconditional embedding is cached.

    The key is the prior's repository and commit, or a hash of a folder's content.
    """
    import platformdirs

    folder = prior_folder(entry)
    if entry.folder:
        digest = hashlib.sha256((folder / INDEX).read_bytes())
        for path in sorted((folder / "prior").iterdir()) if (folder / "prior").is_dir() else ():
            digest.update(f"{path.name} {path.stat().st_size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(SAMPLED_BYTES))
                file.seek(max(0, path.stat().st_size - SAMPLED_BYTES))
                digest.update(file.read(SAMPLED_BYTES))
    else:
        digest = hashlib.sha256(f"{entry.prior} {folder.name}".encode())
    return Path(platformdirs.user_cache_dir("clipkit")) / "decoders" / f"unconditional-{digest.hexdigest()[:32]}.npy"


def cached_unconditional_embedding(entry: DecoderEntry) -> np.ndarray | None:
    """Return the cached unconditional embedding, float32 (d,), or None."""
    try:
        cached = np.load(unconditional_embedding_file(entry), allow_pickle=False)
    except (OSError, ValueError, EOFError, DecoderNotAvailable):
        return None
    return cached.astype(np.float32) if cached.ndim == 1 and np.isfinite(cached).all() else None


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _cached(repository: str, name: str) -> Path | None:
    folder = snapshot(repository)
    return folder / name if folder and (folder / name).is_file() else None


def _snapshot(entry: DecoderEntry, repository: str) -> Path:
    index = _cached(repository, INDEX)
    if not index:
        raise _not_on_disk(entry)
    return index.parent


def _not_on_disk(entry: DecoderEntry) -> DecoderNotAvailable:
    return DecoderNotAvailable(
        f"the decoder {entry.id} is not on this machine: `clipkit decoders pull {entry.id}` downloads "
        f"{entry.download_size(with_tower=True)}"
    )
