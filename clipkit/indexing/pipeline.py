"""The pipeline from folders to committed embeddings: generators chained so that memory stays flat.

    scan -> diff -> hash -> recognise -> decode -> encode -> commit

Items stay in order. What needs no decoding (a moved file, a copy, a failure) flows past the decoders in its place, so
every batch is committed in one transaction, and a run that is killed loses at most the batch in flight.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.records import Details, Embedding, Failure, NewImage
from clipkit.errors import SpaceNotAvailable, UnreadableImage
from clipkit.images.discovery import FoundFile, Problem, walk
from clipkit.images.hashing import content_hash
from clipkit.images.worker import Decoded, DecodePool
from clipkit.indexing.counting import Tally
from clipkit.indexing.report import IndexReport
from clipkit.spaces.encoder import Encoder

CHUNK = 256
"""Files that are compared with the catalog in one look-up."""


@dataclass(slots=True)
class Item:
    """One file on its way; what is not known yet is filled in as it goes, a failure is carried to the commit.

    `known_hash` is what the catalog has for this path, None for a new file; `unchanged` says that the file is the one
    that the catalog knows, and only this space lacks it.
    """

    path: Path
    size: int
    mtime_ns: int
    hash: str = ""
    known_hash: str | None = None
    unchanged: bool = False
    needs_decoding: bool = False
    decoded: Decoded | None = None
    failure: UnreadableImage | None = None


def chunks(items: Iterable, size: int) -> Iterator[list]:
    """Lists of up to `size` items."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk


def scan(roots: Sequence[Path], exclude: Sequence[str]) -> Iterator[Item]:
    """Every picture file below the roots, and what is named like one but cannot be."""
    for found in walk(roots, exclude):
        if isinstance(found, FoundFile):
            yield Item(found.path, found.size, found.mtime_ns)
        elif isinstance(found, Problem):
            yield Item(found.path, 0, 0, failure=UnreadableImage(found.path, found.kind, found.reason))


def diff(items: Iterable[Item], catalog: Catalog, space: str, report: IndexReport, tally: Tally) -> Iterator[Item]:
    """Passes on what is new or changed, or not yet in this space; notes for the catalog which files are there."""
    for chunk in chunks(items, CHUNK):
        catalog.mark_seen(item.path for item in chunk)
        for item in chunk:
            if item.failure and item.failure.kind == "unreadable":
                catalog.mark_seen_below(item.path)  # a folder that cannot be read now loses nothing
        states = catalog.states([item.path for item in chunk])
        embedded = catalog.known_contents({hash_ for *_, hash_ in states.values() if hash_}, space)
        for item in chunk:
            report.scanned += 1
            size, mtime_ns, hash_ = states.get(item.path, (None, None, None))
            same = (size, mtime_ns) == (item.size, item.mtime_ns)
            if same and hash_ is None:
                report.failed += 1
            elif same and hash_ in embedded:
                report.unchanged += 1
            else:
                item.known_hash, item.unchanged = hash_, same
                yield item
                continue
            tally.step()


def hash_all(items: Iterable[Item], threads: int = 2) -> Iterator[Item]:
    """Adds content hashes, a few files ahead; xxhash and reading both let other threads run."""

    def hashed(item: Item) -> Item:
        if not item.failure:
            try:
                item.hash = content_hash(item.path)
            except UnreadableImage as failure:
                item.failure = failure
        return item

    ahead: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="clipkit-hash") as pool:
        for item in items:
            ahead.append(pool.submit(hashed, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def recognise(items: Iterable[Item], catalog: Catalog, space: str, in_flight: set[str]) -> Iterator[Item]:
    """Marks what must be decoded: contents that neither the catalog holds nor an item in flight brings."""
    for item in items:
        if not item.failure and item.hash not in in_flight:
            item.needs_decoding = not catalog.known_contents([item.hash], space)
            if item.needs_decoding:
                in_flight.add(item.hash)
        yield item


def decode(items: Iterable[Item], pool: DecodePool) -> Iterator[Item]:
    """Pixels and metadata from the workers for those that need it; the others pass in their place."""
    for item, decoded in pool.decode(items, path=lambda item: item.path if item.needs_decoding else None):
        if isinstance(decoded, UnreadableImage):
            item.failure = decoded
        elif decoded is not None:
            item.decoded, item.size, item.mtime_ns = decoded, decoded.size, decoded.mtime_ns
        yield item


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists that hold `size` decoded pictures, or many items that need no encoding."""
    batch: list[Item] = []
    decoded = 0
    for item in items:
        batch.append(item)
        decoded += item.decoded is not None
        if decoded == size or len(batch) >= 16 * size:
            yield batch
            batch, decoded = [], 0
    if batch:
        yield batch


def encode(batch: Sequence[Item], encoder: Encoder, size: int, catalog: Catalog) -> list[Embedding]:
    """Embeddings of a batch's decoded pictures, but for those whose embedding outlived its last file.

    Short batches are filled up with black pictures to `size`: the arithmetic of a matrix product depends on its shape,
    and a picture must get the same vector whatever batch it comes in.
    """
    pictures = [item for item in batch if item.decoded]
    kept = catalog.known_contents([item.hash for item in pictures], encoder.space, with_files=False)
    pictures = [item for item in pictures if item.hash not in kept]
    if not pictures:
        return []
    side = encoder.preprocessing.size
    pixels = np.zeros((max(size, len(pictures)), side, side, 3), np.uint8)
    for row, item in zip(pixels, pictures, strict=False):
        assert item.decoded
        row[:] = item.decoded.pixels
    vectors = encoder.encode_images(pixels)
    if not np.isfinite(vectors[: len(pictures)]).all():
        raise SpaceNotAvailable(f"the model {encoder.space} gives vectors that are not finite; try --device cpu")
    return [Embedding(item.hash, vector) for item, vector in zip(pictures, vectors, strict=False)]


def commit(
    batch: Sequence[Item],
    embeddings: Sequence[Embedding],
    catalog: Catalog,
    report: IndexReport,
    broken: dict[str, UnreadableImage],
) -> None:
    """Writes a batch in one transaction and counts it. `broken` remembers contents that gave no picture, for copies."""
    images: list[NewImage] = []
    failures: list[Failure] = []
    missed: list[Failure] = []
    broken.update({item.hash: item.failure for item in batch if item.failure and item.needs_decoding})
    for item in batch:
        failure = item.failure or (None if item.decoded else broken.get(item.hash))
        if failure:
            report.failed += 1
            record = Failure(item.path, item.size, item.mtime_ns, failure.kind, failure.reason)
            (missed if item.unchanged and failure.kind != "vanished" else failures).append(record)
            continue
        images.append(NewImage(item.path, item.size, item.mtime_ns, item.hash, _details(item.decoded)))
        if item.known_hash is None:
            report.added += 1
            report.duplicates += item.decoded is None
        elif item.known_hash != item.hash:
            report.changed += 1
        else:
            report.unchanged += 1
    catalog.commit_batch(images, space=report.space, embeddings=embeddings, failures=failures, missed=missed)
    report.embedded += len(embeddings)


def _details(decoded: Decoded | None) -> Details | None:
    if decoded is None:
        return None
    meta = decoded.metadata
    return Details(
        decoded.width, decoded.height, decoded.format, meta.local_time, meta.camera, meta.lens,
        meta.latitude, meta.longitude, meta.description, decoded.remark, meta.utc_offset, meta.title,
        json.dumps(meta.keywords, ensure_ascii=False) if meta.keywords else None,
    )  # fmt: skip
