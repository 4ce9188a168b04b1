"""The files of a decoder: in its folder, or in the cache of the Hugging Face hub, and how they get there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from clipkit.errors import DecoderNotAvailable, DownloadFailed
from clipkit.generation.registry import DecoderEntry
from clipkit.models.hub.cache import is_offline, snapshot
from clipkit.progress import ProgressCallback

ENDS = 1 << 20
"""Bytes at each end of a file of weights that tell it from others: its header of names and shapes, and some weights."""

NO_FOLDER = Path("no-such-folder")

INDEX = "model_index.json"
"""diffusers' list of the parts of a pipeline."""

_WITH_WEIGHTS = {
    "kandinsky-2-2": ("unet", "movq"),
    "ip-adapter": ("unet", "vae", "text_encoder", "text_encoder_2"),
    "stable-unclip": ("unet", "vae", "text_encoder", "image_normalizer"),
}
_TEXT_FILES = (".json", ".txt", ".model")


def main_folder(entry: DecoderEntry) -> Path:
    """Where its model_index.json lies. Raises DecoderNotAvailable if it is not on this machine."""
    return entry.folder or _snapshot(entry, entry.repository)


def prior_folder(entry: DecoderEntry) -> Path:
    """Where the prior's model_index.json lies. Raises DecoderNotAvailable."""
    return entry.folder / "prior" if entry.folder else _snapshot(entry, entry.prior)


def adapter_file(entry: DecoderEntry) -> Path:
    """An IP-Adapter's weights; in a folder that does not name them, the one file that is called so.

    Raises DecoderNotAvailable.
    """
    if not entry.folder:
        found = _cached(entry.adapter, entry.adapter_file)
        if not found:
            raise _not_here(entry)
        return found
    named = [entry.folder / entry.adapter_file] if entry.adapter_file else []
    there = [path for path in named or sorted(entry.folder.rglob("ip-adapter*.safetensors")) if path.is_file()]
    if len(there) != 1:
        raise DecoderNotAvailable(
            f'{entry.folder} has {len(there) or "no"} files ip-adapter*.safetensors: name one as "adapter_file" in its '
            "clipkit.json"
        )
    return there[0]


def tower_folder(entry: DecoderEntry) -> Path | None:
    """Where the image tower of a published decoder lies, None if it is not on this machine."""
    try:
        if entry.family == "kandinsky-2-2":
            places = [prior_folder(entry) / "image_encoder"]
        elif entry.family == "ip-adapter":
            adapter = adapter_file(entry)
            # Both adapters for ViT-H/14 go with the tower beside the older of them.
            beside = adapter.parent.parent / "models" / "image_encoder"
            own = [adapter.parent / "image_encoder", adapter.parent / "models" / "image_encoder"]
            places = [beside] if entry.adapter else [*own, beside, main_folder(entry) / "image_encoder"]
        else:
            places = [main_folder(entry) / "image_encoder"]
    except DecoderNotAvailable:
        return None
    return next((place for place in places if _has_weights(place)), None)


def missing(entry: DecoderEntry) -> list[str]:
    """The parts without which no picture can be made of words; empty if all are here."""
    if entry.folder:
        return [] if (entry.folder / INDEX).is_file() else [INDEX]
    try:
        main = main_folder(entry)
        index = json.loads((main / INDEX).read_text("utf-8"))
        lacking = [p for p in _WITH_WEIGHTS[entry.family] if index.get(p) and not _has_weights(main / p)]
        if entry.family == "kandinsky-2-2":
            prior = prior_folder(entry)
            lacking += [part for part in ("prior", "text_encoder") if not _has_weights(prior / part)]
            if cached_nothing(entry) is None and tower_folder(entry) is None:
                lacking.append("image_encoder")
        elif entry.family == "ip-adapter":
            adapter_file(entry)
    except (DecoderNotAvailable, OSError, ValueError):
        return [entry.repository]
    return lacking


def fetch(entry: DecoderEntry, *, tower: bool = True, progress: ProgressCallback | None = None) -> None:
    """Downloads what is not here yet, of weights the half precision where there is one.

    What broke off goes on, every file is checked by its hash. Without `tower` the image tower stays where it is. Raises
    DecoderNotAvailable.
    """
    from clipkit.models.hub.downloading import download, download_all, listing, translate_download_errors

    if entry.folder:
        return
    if is_offline():
        raise DecoderNotAvailable(
            f"the decoder {entry.id} is not on this machine and the hub is switched off (HF_HUB_OFFLINE): name a FOLDER"
        )
    wanted = []
    try:
        with translate_download_errors(f"decoder {entry.id}", "name a FOLDER with its files"):
            for repository in filter(None, (entry.repository, entry.prior)):
                there = {file.name: file for file in listing(repository)}
                if INDEX not in there:
                    raise DecoderNotAvailable(f"{repository} has no {INDEX}: it is no pipeline of diffusers'")
                index = json.loads(download(there[INDEX]).read_text("utf-8"))
                wanted += [there[name] for name in pipeline_files(there, index, tower)]
            if entry.adapter:
                there = {file.name: file for file in listing(entry.adapter)}
                if entry.adapter_file not in there:
                    raise DecoderNotAvailable(f"{entry.adapter} has no {entry.adapter_file}")
                wanted += [there[name] for name in adapter_files(there, entry.adapter_file, tower)]
            download_all(wanted, f"the decoder {entry.id}", progress)
    except (DownloadFailed, ValueError) as error:
        raise DecoderNotAvailable(str(error)) from error


def pipeline_files(names: Iterable[str], index: dict, tower: bool) -> list[str]:
    """Of a repository's files those that a pipeline loads: of every part the texts, and one set of safetensors.

    `index`: what its model_index.json holds, which names the parts; repositories have others beside them.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, _ = name.rpartition("/")
        folders.setdefault(folder, []).append(name)
    parts = [part for part, kind in index.items() if isinstance(kind, list) and any(kind)]
    chosen = [INDEX]
    for part in parts:
        if part == "image_encoder" and not tower:
            continue
        members = folders.get(part, ())
        chosen += [name for name in members if name.endswith(_TEXT_FILES)]
        weights = [name for name in members if name.endswith(".safetensors") and ".non_ema." not in name]
        half = [name for name in weights if ".fp16." in name or ".fp16-" in name]
        chosen += half or weights
    return sorted(chosen)


def adapter_files(names: Iterable[str], weights: str, tower: bool) -> list[str]:
    """Of an adapter's repository its weights, and the image tower of ViT-H/14."""
    beside = [n for n in names if n.startswith("models/image_encoder/") and n.endswith((".json", ".safetensors"))]
    return [weights, *(beside if tower else ())]


def variant(folder: Path, device: str) -> str | None:
    """Which weights of a folder diffusers shall take: half precision on a GPU, or where there are no others."""
    parts = [part for part in folder.iterdir() if part.is_dir()]
    half = [part for part in parts if any(part.glob("*.fp16*.safetensors"))]
    only = any(variant_of_part(part) for part in half)
    return "fp16" if only or (half and device == "cuda") else None


def variant_of_part(part: Path) -> str | None:
    """ "fp16" for a folder of weights in half precision only, as `fetch` leaves it; else None."""
    weights = [path.name for path in part.glob("*.safetensors")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None


def nothing_file(entry: DecoderEntry) -> Path:
    """Where the embedding of nothing is cached, by the prior's repository and commit, or by its content."""
    import platformdirs

    folder = prior_folder(entry)
    if entry.folder:
        digest = hashlib.sha256((folder / INDEX).read_bytes())
        for path in sorted((folder / "prior").iterdir()) if (folder / "prior").is_dir() else ():
            digest.update(f"{path.name} {path.stat().st_size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(ENDS))
                file.seek(max(0, path.stat().st_size - ENDS))
                digest.update(file.read(ENDS))
    else:
        digest = hashlib.sha256(f"{entry.prior} {folder.name}".encode())
    return Path(platformdirs.user_cache_dir("clipkit")) / "decoders" / f"nothing-{digest.hexdigest()[:32]}.npy"


def cached_nothing(entry: DecoderEntry) -> np.ndarray | None:
    """The embedding of nothing, float32 (d,), if it was ever computed on this machine."""
    try:
        cached = np.load(nothing_file(entry), allow_pickle=False)
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
        raise _not_here(entry)
    return index.parent


def _not_here(entry: DecoderEntry) -> DecoderNotAvailable:
    return DecoderNotAvailable(
        f"the decoder {entry.id} is not on this machine: `clipkit decoders pull {entry.id}` downloads "
        f"{entry.download(tower=True)}"
    )
