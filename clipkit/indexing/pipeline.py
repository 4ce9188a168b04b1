"""The pipeline from folders to committed embeddings: a chain of generators, so that memory use stays constant.

    scan -> diff -> hash -> recognise -> decode -> encode -> commit

Items stay in order: those that need no decoding (moved files, copies, failures) bypass the decoders but keep their
place. Every batch is committed in one transaction, so a run that is killed loses at most the batch in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.known_files import KnownFiles
from clipkit.catalog.rows import Embedding, Failure, NewImage
from clipkit.errors import ModelNotAvailable, UnreadableImage
from clipkit.images.decode_pool import DecodePool
from clipkit.images.discovery import FoundFile, Mount, Problem, walk
from clipkit.images.failure_causes import ACCESS, is_worth_retrying
from clipkit.images.hashing import content_hash
from clipkit.images.limits import Limits
from clipkit.indexing.counting import Tally
from clipkit.indexing.item import Item
from clipkit.indexing.report import IndexReport
from clipkit.indexing.timings import Timings
from clipkit.models.encoder import Encoder

LOOKUP_SIZE = 1024
"""Files looked up in the catalog at once."""

MAX_RETRIES = 2
"""How often a file that changes while being read is retried in one run; after that, the next run retries it."""


T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` items."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk


def scan(roots: Mapping[Path, Sequence[str]], mounts: list[Path]) -> Iterator[FoundFile | Item]:
    """Yield every picture file below `roots`, and failures for what is named like one but cannot be read.

    `roots` maps folders to their excluded globs; `mounts` receives the mount points found on the way.
    """
    for found in walk(roots, roots):
        if isinstance(found, FoundFile):
            yield found
        elif isinstance(found, Problem):
            failure = UnreadableImage(found.path, found.kind, found.reason, found.cause)
            yield Item(found.path, 0, 0, failure=failure)
        elif isinstance(found, Mount):
            mounts.append(found.path)


def diff(
    scanned: Iterable[FoundFile | Item],
    catalog: Catalog,
    space: str,
    folders: Iterable[Path],
    limits: Limits,
    report: IndexReport,
    tally: Tally,
) -> Iterator[Item]:
    """Yield files that are new, changed, not yet embedded in `space`, or worth a retry; mark all files as seen.

    `folders`: what was scanned. A failed file is worth a retry if its cause may no longer apply.
    """

    @cache
    def worth_a_retry(cause: str) -> bool:
        return is_worth_retrying(cause, limits.pixels)

    known = KnownFiles(catalog, space, folders)
    for found in chunks(scanned, LOOKUP_SIZE):
        items = _unknown(found, known)
        unchanged = len(found) - len(items)
        report.scanned += unchanged
        report.unchanged += unchanged
        tally.step(unchanged)
        yield from _changed(items, catalog, space, worth_a_retry, report, tally)
    catalog.mark_recognised(known.recognised())


def _unknown(found: Sequence[FoundFile | Item], known: KnownFiles) -> list[Item]:
    """Return items for all files but those that are known and unchanged, and the failures among `found`."""
    files = [file for file in found if isinstance(file, FoundFile)]
    unchanged = iter(known.recognise(files).tolist())
    return [
        Item(one.path, one.size, one.mtime_ns) if isinstance(one, FoundFile) else one
        for one in found
        if isinstance(one, Item) or not next(unchanged)
    ]


def _changed(
    items: list[Item],
    catalog: Catalog,
    space: str,
    worth_a_retry: Callable[[str], bool],
    report: IndexReport,
    tally: Tally,
) -> Iterator[Item]:
    catalog.mark_seen(item.path for item in items)
    for item in items:
        if item.failure and item.failure.kind == "unreadable":
            catalog.mark_seen_below(item.path)  # an unreadable folder keeps its files
    states = catalog.states([item.path for item in items])
    causes = catalog.causes([item.path for item in items])
    embedded = catalog.known_contents({hash_ for *_, hash_ in states.values() if hash_}, space)
    readable: list[Path] = []
    for item in items:
        report.scanned += 1
        size, mtime_ns, hash_ = states.get(item.path, (None, None, None))
        same = (size, mtime_ns) == (item.size, item.mtime_ns)
        if item.failure or (same and hash_ is None and worth_a_retry(causes[item.path])):
            item.known_hash = hash_
            yield item
            continue
        if same and hash_ is None:
            report.failed += 1
        elif same and hash_ in embedded:
            report.unchanged += 1
            if causes.get(item.path) == ACCESS:
                readable.append(item.path)
        else:
            item.known_hash, item.unchanged = hash_, same
            yield item
            continue
        tally.step()
    if readable:
        catalog.forget_failures(readable)


def hash_all(items: Iterable[Item], limits: Limits, timings: Timings, threads: int = 2) -> Iterator[Item]:
    """Add content hashes, a few files ahead, on threads: reading and xxhash release the GIL."""

    def hashed(item: Item) -> Item:
        if not item.failure:
            try:
                with timings.measure("hash"):
                    item.hash = content_hash(item.path, limits.bytes)
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


def recognise(
    items: Iterable[Item],
    catalog: Catalog,
    space: str,
    in_flight: set[str],
    on_new: Callable[[], None] = lambda: None,
) -> Iterator[Item]:
    """Mark what must be decoded: contents that are neither in the catalog nor in flight; call `on_new` for each."""
    for item in items:
        if not item.failure and item.hash not in in_flight:
            item.needs_decoding = not catalog.known_contents([item.hash], space)
            if item.needs_decoding:
                on_new()
                in_flight.add(item.hash)
        yield item


def decode(items: Iterable[Item], pool: DecodePool) -> Iterator[Item]:
    """Add pixels and metadata from the worker processes to the items that need decoding."""
    for item, decoded in pool.decode(items, path=lambda item: item.path if item.needs_decoding else None):
        if isinstance(decoded, UnreadableImage):
            item.failure = decoded
        elif decoded is not None and (decoded.size, decoded.mtime_ns) != (item.size, item.mtime_ns):
            # The hash and the pixels may come from different bytes.
            item.failure = UnreadableImage(item.path, "unreadable", "it changed while being read", ACCESS)
        else:
            item.decoded = decoded
        yield item


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists with `size` decoded pictures, or with 16 times as many items of which fewer were decoded."""
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
    """Encode a batch's decoded pictures, except those whose embedding is kept though their files were removed.

    The encoder gets them in its own batches, or in those of `size` if it takes any, and the last one is padded with
    black pictures: the rounding of a matrix product depends on its shape, and a picture must get the same vector in
    every batch. Raises ModelNotAvailable if a vector is not finite.
    """
    pictures = [item for item in batch if item.decoded]
    kept = catalog.known_contents([item.hash for item in pictures], encoder.space, with_files=False)
    pictures = [item for item in pictures if item.hash not in kept]
    if not pictures:
        return []
    side, at_once = encoder.preprocessing.size, min(size, encoder.image_batch or size)
    pixels = np.zeros((-(-len(pictures) // at_once) * at_once, side, side, 3), np.uint8)
    for row, item in zip(pixels, pictures, strict=False):
        assert item.decoded
        row[:] = item.decoded.pixels
    vectors = encoder.encode_images(pixels)
    if not np.isfinite(vectors[: len(pictures)]).all():
        raise ModelNotAvailable(f"the model {encoder.space} returned vectors that are not finite; try --device cpu")
    return [Embedding(item.hash, vector) for item, vector in zip(pictures, vectors, strict=False)]


def commit(
    batch: Sequence[Item],
    embeddings: Sequence[Embedding],
    catalog: Catalog,
    limits: Limits,
    report: IndexReport,
    broken: dict[tuple[str, str], Failure],
) -> list[Item]:
    """Write a batch in one transaction and count it; return the items to retry.

    `broken` maps contents that cannot be decoded to the failure, so that copies fail alike. If the file failed rather
    than its bytes, a copy is read itself: the other file may have been deleted during the run.
    """
    images: list[NewImage] = []
    failures: list[Failure] = []
    missed: list[Failure] = []
    retry: list[Item] = []
    available = {item.hash for item in batch if item.decoded}
    available |= catalog.known_contents({item.hash for item in batch if item.hash} - available, report.model)
    for item in batch:
        failure = item.failure_record(limits)
        if failure and item.retries < MAX_RETRIES and (changed := item.if_changed()):
            retry.append(changed)
            continue
        if failure and item.needs_decoding and failure.cause != ACCESS:
            broken[item.content_key] = failure
        if not failure and item.hash not in available:  # the copy that was to be decoded failed
            copy_failure = broken.get(item.content_key)
            if not copy_failure:
                retry.append(item.reset())
                continue
            failure = replace(copy_failure, path=item.path, size=item.size, mtime_ns=item.mtime_ns)
        if failure:
            report.failed += 1
            keeps_record = item.unchanged or (failure.cause == ACCESS and item.hash in ("", item.known_hash))
            (missed if keeps_record else failures).append(failure)
            continue
        images.append(NewImage(item.path, item.size, item.mtime_ns, item.hash, item.details()))
        if item.known_hash is None:
            report.added += 1
            report.duplicates += item.decoded is None
        elif item.known_hash != item.hash:
            report.changed += 1
        else:
            report.unchanged += 1
    catalog.commit_batch(images, space=report.model, embeddings=embeddings, failures=failures, missed=missed)
    report.embedded += len(embeddings)
    return retry
