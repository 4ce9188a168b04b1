"""Fitting a bridge on a library's own pictures, from one of its spaces to what a decoder takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipkit.catalog.stored import sample_of, stored_embeddings
from clipkit.errors import ClipkitError, DecoderNotAvailable, UnreadableImage
from clipkit.generation import decoder_files, registry
from clipkit.generation.bridge import MIN_PICTURES, Bridge, bridge_file, fit, save
from clipkit.models.hub.locating import is_here
from clipkit.models.registry import canonical_id
from clipkit.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.library import Library

BATCH = 32


def fit_bridge(
    library: Library,
    to: str,
    *,
    space: str | None,
    sample: int,
    device: str,
    progress: ProgressCallback | None,
) -> Bridge:
    """See `Library.fit_bridge`. What is embedded for the fit is kept in memory only."""
    source = canonical_id(space) if space else library.space
    if source not in library.catalog.spaces():
        raise ClipkitError(f"this library has no space {source}: `clipkit info` names those it has")
    if sample < MIN_PICTURES:
        raise ClipkitError(f"a bridge needs a sample of at least {MIN_PICTURES} pictures")
    entry = _decoder(to)
    target = entry.bridge_target if entry else canonical_id(to)
    if target == source or (entry and source in entry.spaces):
        raise ClipkitError(f"the library is in the space {source} already: no bridge is needed to it")
    contents = sample_of(library.catalog, source, sample)
    if len(contents) < MIN_PICTURES:
        raise ClipkitError(
            f"a bridge needs at least {MIN_PICTURES} pictures in {source}, and the library has {len(contents)}"
        )
    there = stored_embeddings(library.catalog, [content for content, _ in contents], target)
    lacking = [(content, number) for content, number in contents if content not in there]
    if lacking:
        there |= _embedded(library, lacking, _image_tower(target, entry, device), progress)
    both = [content for content, _ in contents if content in there]
    known = stored_embeddings(library.catalog, both, source)
    if len(both) < MIN_PICTURES:
        raise ClipkitError(f"only {len(both)} pictures of the library could be read: a bridge needs {MIN_PICTURES}")
    fitted = fit(source, target, np.stack([known[c] for c in both]), np.stack([there[c] for c in both]))
    save(fitted, library.path / "bridges")
    return fitted


def remove_bridges(library: Library, to: str | None) -> int:
    """See `Library.remove_bridges`."""
    folder = library.path / "bridges"
    entry = _decoder(to) if to else None
    target = entry.bridge_target if entry else canonical_id(to) if to else ""
    removed = 0
    for path in sorted(folder.glob("*.safetensors")):
        names_it = path.name.endswith(bridge_file(folder, "", target).name)
        if to is None or names_it:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _decoder(to: str) -> registry.DecoderEntry | None:
    try:
        return registry.resolve_decoder(to)
    except DecoderNotAvailable:
        return None


def _image_tower(
    target: str, entry: registry.DecoderEntry | None, device: str
) -> tuple[int, Callable[[Sequence[Image]], np.ndarray]]:
    """The side that it wants pictures to have at least, and what encodes them: that of the space if its files are
    here, else that of a decoder that takes the space."""
    from clipkit.generation.loading import has_trained_prior, load_conditioner
    from clipkit.models.encoder import load_encoder

    takers = [entry] if entry else [e for e in registry.entries() if target in e.spaces]
    tower = next((e for e in takers if not has_trained_prior(e) and decoder_files.image_tower_folder(e)), None)
    here = is_here(target)
    if tower and not (here and target == tower.space):
        conditions = load_conditioner(tower, device)
        return 448, conditions.embed_images
    if entry and entry.folder and not entry.space:
        raise DecoderNotAvailable(f"the decoder {entry.id} has no image tower, and names no space in its clipkit.json")
    if entry and not here:
        raise DecoderNotAvailable(
            f"the image tower of the decoder {entry.id} is not on this machine: `clipkit decoders pull {entry.id}` "
            f"fetches it, or `clipkit models pull {target}` the model of its space"
        )
    encoder = load_encoder(target, device, export=False)

    def encode(pictures: Sequence[Image]) -> np.ndarray:
        return encoder.encode_images(np.stack([encoder.preprocessing.pixels(picture) for picture in pictures]))

    return 2 * encoder.preprocessing.size, encode


def _embedded(
    library: Library,
    contents: Sequence[tuple[str, int]],
    tower: tuple[int, Callable[[Sequence[Image]], np.ndarray]],
    progress: ProgressCallback | None,
) -> dict[str, np.ndarray]:
    """Content hash -> embedding of the pictures that can still be read."""
    from clipkit.images.decoding import open_picture

    side, encode = tower
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(contents), BATCH):
        part = contents[start : start + BATCH]
        at = library.catalog.files_of([number for _, number in part])
        names: list[str] = []
        pictures: list[Image] = []
        for content, number in part:
            for row in at.get(number, ()):
                try:
                    pictures.append(open_picture(row.path, shortest_side=side).image)
                except UnreadableImage:
                    continue
                names.append(content)
                break
        if pictures:
            found |= dict(zip(names, encode(pictures), strict=True))
        if progress:
            progress(Progress("embedding the sample", min(start + BATCH, len(contents)), len(contents)))
    return found
