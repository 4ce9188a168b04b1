"""The pipeline from folders to committed embeddings: generators chained so that memory stays flat.

    scan -> diff -> hash -> recognise -> decode -> encode -> commit

Items stay in order. What needs no decoding (a moved file, a copy, a failure) flows past the decoders in its place, so
every batch is committed in one transaction, and a run that is killed loses at most the batch in flight.
"""

from __future__ import annotations

import json
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.rows import Details, Embedding, Failure, NewImage
from clipkit.errors import ModelNotAvailable, UnreadableImage
from clipkit.images.decode_pool import DecodePool
from clipkit.images.decode_worker import Decoded
from clipkit.images.discovery import FoundFile, Mount, Problem, walk
from clipkit.images.failure_causes import ACCESS, failure_cause, is_worth_retrying
from clipkit.images.file_access import modified_ns
from clipkit.images.hashing import content_hash
from clipkit.images.limits import Limits
from clipkit.indexing.counting import Tally
from clipkit.indexing.report import IndexReport
from clipkit.models.encoder import Encoder

CHUNK = 256
"""Files that are compared with the catalog in one look-up."""
TRIES = 2
"""How often a file that changes while it is read is read again in one run; the next run takes it up."""


@dataclass(slots=True)
class Item:
    """One file on its way; what is not known yet is filled in as it goes, a failure is carried to the commit.

    `known_hash` is what the catalog has for this path, None for a new file; `unchanged` says that the file is the one
    that the catalog knows, and only this space lacks it.
    `tries` counts the times that it was sent round again because it changed while it was read.
    """

    path: Path
    size: int
    mtime_ns: int
    hash: str = ""
    known_hash: str | None = None
    unchanged: bool = False
    needs_decoding: bool = False
    tries: int = 0
    decoded: Decoded | None = None
    failure: UnreadableImage | None = None


def chunks(items: Iterable, size: int) -> Iterator[list]:
    """Lists of up to `size` items."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk


def scan(roots: Mapping[Path, Sequence[str]], mounts: list[Path]) -> Iterator[Item]:
    """Every picture file below the roots, each with the globs that it leaves out, and what is named like one but cannot
    be; `mounts` is filled with the mount points met on the way."""
    for found in walk(roots, roots):
        if isinstance(found, FoundFile):
            yield Item(found.path, found.size, found.mtime_ns)
        elif isinstance(found, Problem):
            failure = UnreadableImage(found.path, found.kind, found.reason, found.cause)
            yield Item(found.path, 0, 0, failure=failure)
        elif isinstance(found, Mount):
            mounts.append(found.path)


def diff(
    items: Iterable[Item], catalog: Catalog, space: str, limits: Limits, report: IndexReport, tally: Tally
) -> Iterator[Item]:
    """Passes on what is new or changed, not yet in this space, or failed for a cause that may have gone; notes for the
    catalog which files are there."""

    @cache
    def worth_a_try(cause: str) -> bool:
        return is_worth_retrying(cause, limits.pixels)

    for chunk in chunks(items, CHUNK):
        catalog.mark_seen(item.path for item in chunk)
        for item in chunk:
            if item.failure and item.failure.kind == "unreadable":
                catalog.mark_seen_below(item.path)  # a folder that cannot be read now loses nothing
        states = catalog.states([item.path for item in chunk])
        causes = catalog.causes([item.path for item in chunk])
        embedded = catalog.known_contents({hash_ for *_, hash_ in states.values() if hash_}, space)
        reached: list[Path] = []
        for item in chunk:
            report.scanned += 1
            size, mtime_ns, hash_ = states.get(item.path, (None, None, None))
            same = (size, mtime_ns) == (item.size, item.mtime_ns)
            if item.failure or (same and hash_ is None and worth_a_try(causes[item.path])):
                item.known_hash = hash_
                yield item
                continue
            if same and hash_ is None:
                report.failed += 1
            elif same and hash_ in embedded:
                report.unchanged += 1
                if causes.get(item.path) == ACCESS:
                    reached.append(item.path)
            else:
                item.known_hash, item.unchanged = hash_, same
                yield item
                continue
            tally.step()
        if reached:
            catalog.forget_failures(reached)


def hash_all(items: Iterable[Item], limits: Limits, threads: int = 2) -> Iterator[Item]:
    """Adds content hashes, a few files ahead; xxhash and reading both let other threads run."""

    def hashed(item: Item) -> Item:
        if not item.failure:
            try:
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
        elif decoded is not None and (decoded.size, decoded.mtime_ns) != (item.size, item.mtime_ns):
            # The hash may be that of other bytes than these pixels came from.
            item.failure = UnreadableImage(item.path, "unreadable", "it changed while it was read", ACCESS)
        else:
            item.decoded = decoded
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
        raise ModelNotAvailable(f"the model {encoder.space} gives vectors that are not finite; try --device cpu")
    return [Embedding(item.hash, vector) for item, vector in zip(pictures, vectors, strict=False)]


def commit(
    batch: Sequence[Item],
    embeddings: Sequence[Embedding],
    catalog: Catalog,
    limits: Limits,
    report: IndexReport,
    broken: dict[tuple[str, str], Failure],
) -> list[Item]:
    """Writes a batch in one transaction and counts it; returns the items that must go round once more.

    `broken` remembers contents that gave no picture, for copies. Where it was not the bytes that failed but the file, a
    copy is read for itself: its twin may have been deleted while this ran.
    """
    images: list[NewImage] = []
    failures: list[Failure] = []
    missed: list[Failure] = []
    again: list[Item] = []
    there = {item.hash for item in batch if item.decoded}
    there |= catalog.known_contents({item.hash for item in batch if item.hash} - there, report.space)
    for item in batch:
        failure = _failure_of(item, limits)
        if failure and item.tries < TRIES and (fresh := _looked_at_again(item)):
            again.append(fresh)
            continue
        if failure and item.needs_decoding and failure.cause != ACCESS:
            broken[_content(item)] = failure
        if not failure and item.hash not in there:  # its twin was to bring the pixels, and did not
            twin = broken.get(_content(item))
            if not twin:
                again.append(_from_the_start(item))
                continue
            failure = replace(twin, path=item.path, size=item.size, mtime_ns=item.mtime_ns)
        if failure:
            report.failed += 1
            stays = item.unchanged or (failure.cause == ACCESS and item.hash in ("", item.known_hash))
            (missed if stays else failures).append(failure)
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
    return again


def _failure_of(item: Item, limits: Limits) -> Failure | None:
    if not item.failure:
        return None
    cause = failure_cause(item.failure, limits.pixels)
    return Failure(item.path, item.size, item.mtime_ns, item.failure.kind, item.failure.reason, cause)


def _content(item: Item) -> tuple[str, str]:
    """What decoders go by: the bytes, and the extension, which tells RAW files from TIFF."""
    return item.hash, item.path.suffix.lower()


def _from_the_start(item: Item) -> Item:
    """The same file with nothing done to it yet."""
    return Item(
        item.path, item.size, item.mtime_ns, known_hash=item.known_hash, unchanged=item.unchanged, tries=item.tries
    )


def _looked_at_again(item: Item) -> Item | None:
    """The file as it is now, if it is there and another than when it was found."""
    try:
        status = os.stat(item.path)
    except (OSError, ValueError):
        return None
    now = status.st_size, modified_ns(status)
    if now == (item.size, item.mtime_ns) or not stat.S_ISREG(status.st_mode):
        return None
    return Item(item.path, *now, known_hash=item.known_hash, tries=item.tries + 1)


def _details(decoded: Decoded | None) -> Details | None:
    if decoded is None:
        return None
    meta = decoded.metadata
    return Details(
        decoded.width, decoded.height, decoded.format, meta.local_time, meta.camera, meta.lens,
        meta.latitude, meta.longitude, meta.description, decoded.remark, meta.utc_offset, meta.title,
        json.dumps(meta.keywords, ensure_ascii=False) if meta.keywords else None,
    )  # fmt: skip
