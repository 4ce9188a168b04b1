"""Fitting a bridge on a library's own pictures, from one of its models to what a decoder takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.embeddings import load_embeddings, sample_contents
from clipkit.catalog.layout import Layout
from clipkit.errors import ClipkitError, DecoderNotAvailable, UnreadableImage
from clipkit.generation import decoder_files, registry
from clipkit.generation.bridge import MIN_PICTURES, Bridge, bridge_file, fit, save
from clipkit.models.hub.locating import is_here
from clipkit.models.reference import ModelRef
from clipkit.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageTower = Callable[[Sequence[Image]], np.ndarray]
    """Pictures -> embeddings float32 (n, d), not normalised."""

BATCH_SIZE = 32


def fit_bridge(
    catalog: Catalog,
    layout: Layout,
    source: str,
    to: str,
    *,
    sample: int,
    device: str,
    progress: ProgressCallback | None,
) -> Bridge:
    """Fit and save a bridge from `source`, the id of one of the library's models; see `Library.fit_bridge`.

    Embeddings computed for the fit are not stored.
    """
    if sample < MIN_PICTURES:
        raise ClipkitError(f"a bridge needs a sample of at least {MIN_PICTURES} pictures")
    entry = _decoder(to)
    target = _target(to)
    if target == source or (entry and source in entry.spaces):
        raise ClipkitError(f"the library already has embeddings of {source}: no bridge is needed to it")
    contents = sample_contents(catalog, source, sample)
    if len(contents) < MIN_PICTURES:
        raise ClipkitError(
            f"a bridge needs at least {MIN_PICTURES} pictures embedded with {source}; the library has {len(contents)}"
        )
    targets = load_embeddings(catalog, [content for content, _ in contents], target)
    lacking = [(content, number) for content, number in contents if content not in targets]
    if lacking:
        side, encode = _image_tower(target, entry, device)
        targets |= _embed(catalog, lacking, side, encode, progress)
    both = [content for content, _ in contents if content in targets]
    if len(both) < MIN_PICTURES:
        raise ClipkitError(f"only {len(both)} pictures of the library could be read; a bridge needs {MIN_PICTURES}")
    sources = load_embeddings(catalog, both, source)
    fitted = fit(source, target, np.stack([sources[c] for c in both]), np.stack([targets[c] for c in both]))
    save(fitted, layout.bridges)
    return fitted


def remove_bridges(folder: Path, to: str | None) -> int:
    """Delete the bridges in `folder` to a model or decoder, or all; return how many."""
    ending = bridge_file(folder, "", _target(to)).name if to else ""
    paths = [path for path in sorted(folder.glob("*.safetensors")) if path.name.endswith(ending)]
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _decoder(to: str) -> registry.DecoderEntry | None:
    try:
        return registry.resolve_decoder(to)
    except DecoderNotAvailable:
        return None


def _target(to: str) -> str:
    """Return the name by which bridges record where they lead."""
    entry = _decoder(to)
    return entry.bridge_target if entry else ModelRef.resolve(to).id


def _image_tower(target: str, entry: registry.DecoderEntry | None, device: str) -> tuple[int, ImageTower]:
    """Return the shortest side, in pixels, to decode pictures at, and the image tower.

    It is the model's own if its files are on disk, else that of a decoder that takes the model's embeddings.
    """
    from clipkit.generation.loading import has_trained_prior, load_conditioner
    from clipkit.models.loading import load_encoder

    takers = [entry] if entry else [e for e in registry.entries() if target in e.spaces]
    tower = next((e for e in takers if not has_trained_prior(e) and decoder_files.image_tower_folder(e)), None)
    on_disk = is_here(ModelRef.of(target))
    if tower and not (on_disk and target == tower.space):
        conditions = load_conditioner(tower, device)
        return 448, conditions.embed_images
    if entry and entry.folder and not entry.space:
        raise DecoderNotAvailable(
            f"the decoder {entry.id} lacks an image tower, and its clipkit.json does not name a model"
        )
    if entry and not on_disk:
        raise DecoderNotAvailable(
            f"the image tower of the decoder {entry.id} is not on this machine; download it with "
            f"`clipkit decoders pull {entry.id}`, or its model with `clipkit models pull {target}`"
        )
    encoder = load_encoder(target, device, export=False)

    def encode(pictures: Sequence[Image]) -> np.ndarray:
        return encoder.encode_images(np.stack([encoder.preprocessing.pixels(picture) for picture in pictures]))

    return 2 * encoder.preprocessing.size, encode


def _embed(
    catalog: Catalog,
    contents: Sequence[tuple[str, int]],
    side: int,
    encode: ImageTower,
    progress: ProgressCallback | None,
) -> dict[str, np.ndarray]:
    """Return content hash -> embedding, leaving out pictures that can no longer be read."""
    from clipkit.images.decoding import open_picture

    embeddings: dict[str, np.ndarray] = {}
    for start in range(0, len(contents), BATCH_SIZE):
        batch = contents[start : start + BATCH_SIZE]
        files = catalog.files_by_embedding([number for _, number in batch])
        hashes: list[str] = []
        pictures: list[Image] = []
        for content, number in batch:
            for row in files.get(number, ()):
                try:
                    pictures.append(open_picture(row.path, shortest_side=side).image)
                except UnreadableImage:
                    continue
                hashes.append(content)
                break
        if pictures:
            embeddings |= dict(zip(hashes, encode(pictures), strict=True))
        if progress:
            progress(Progress("embedding the sample", min(start + BATCH_SIZE, len(contents)), len(contents)))
    return embeddings
