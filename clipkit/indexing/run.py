"""An indexing run: bring a library up to date with its folders, one model after another."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.info import count_files
from clipkit.catalog.layout import Layout
from clipkit.catalog.rows import Failure
from clipkit.cores import available_cores
from clipkit.errors import ModelNotAvailable
from clipkit.images.decode_pool import DecodePool
from clipkit.images.file_access import is_absent
from clipkit.images.limits import Limits
from clipkit.indexing import pipeline
from clipkit.indexing.counting import Tally
from clipkit.indexing.item import Item
from clipkit.indexing.report import IndexReport
from clipkit.indexing.search_index import publish_search_index
from clipkit.indexing.timings import Timings
from clipkit.indexing.vanished_files import remove_moved_and_deleted
from clipkit.marks.reading import find_evidence
from clipkit.models.devices import choose_device
from clipkit.models.encoder import Encoder
from clipkit.models.loading import load_encoder
from clipkit.models.starting import StartingEncoder, starting_encoder
from clipkit.progress import Progress, ProgressCallback


@dataclass(frozen=True)
class IndexOptions:
    """The options of a run, as `Library.index` documents them."""

    include_generated: bool | None = None
    remove_missing: bool = False
    device: str = "auto"
    batch_size: int = 32
    workers: int | None = None
    limits: Limits = field(default_factory=Limits)


def index_library(
    catalog: Catalog,
    layout: Layout,
    models: Sequence[str],
    roots: Mapping[Path, Sequence[str]],
    options: IndexOptions,
    progress: ProgressCallback | None = None,
) -> IndexReport:
    """Bring every model up to date with `roots`: folder -> its excluded globs; takes the library's write lock.

    If one of several models cannot be loaded, it is skipped with a note in the report.
    Raises LibraryBusy, ModelNotAvailable if no model can be loaded.
    """
    started = time.monotonic()
    if options.device not in ("auto", "cpu"):
        choose_device(options.device)  # also if there turns out to be nothing to encode
    with catalog.writing():
        report = _index_models(catalog, layout, models, roots, options, progress)
    report.images, report.generated = count_files(catalog)
    report.seconds = time.monotonic() - started
    return report


def _index_models(
    catalog: Catalog,
    layout: Layout,
    models: Sequence[str],
    roots: Mapping[Path, Sequence[str]],
    options: IndexOptions,
    progress: ProgressCallback | None,
) -> IndexReport:
    for root, globs in roots.items():  # first, so that the next run can resume this one if it is killed
        catalog.add_roots([root], globs, include_generated=options.include_generated)
    total: IndexReport | None = None
    notes: list[str] = []
    for model in models:
        model_progress = _naming(model, progress) if len(models) > 1 else progress
        try:
            report = _index_model(catalog, layout, model, roots, options, model_progress)
        except ModelNotAvailable as error:
            notes.append(str(error))
            continue
        notes += report.notes
        total = report if total is None else total.merged_with(report)
    if total is None:
        raise ModelNotAvailable(notes[0])
    total.notes = list(dict.fromkeys(notes))  # notes on folders are the same for every model
    return total


def _index_model(
    catalog: Catalog,
    layout: Layout,
    model: str,
    roots: Mapping[Path, Sequence[str]],
    options: IndexOptions,
    progress: ProgressCallback | None,
) -> IndexReport:
    """Bring one model up to date; it is loaded only if there is something to encode. Raises ModelNotAvailable."""
    timings = Timings()

    def load() -> Encoder:
        with timings.measure("load"):
            return load_encoder(model, options.device, progress=progress)

    with starting_encoder(model, load) as starting:
        _add_model(catalog, layout, starting)
        report = _embed(catalog, layout, starting, roots, options, timings, progress)
        encoder = starting.so_far()
        if encoder.note:
            report.notes.insert(0, encoder.note)
        with timings.measure("publish"):
            catalog.show_by_roots()
            publish_search_index(catalog, layout, encoder, progress=progress)
    report.timings_ms = timings.to_ms()
    return report


def _add_model(catalog: Catalog, layout: Layout, starting: StartingEncoder) -> None:
    if starting.space not in catalog.spaces():
        starting.wait()  # a model that cannot be loaded is not added
        # An interrupted removal may have left files that refer to deleted embeddings.
        shutil.rmtree(layout.vectors(starting.space), ignore_errors=True)
        catalog.add_space(starting.space, starting.dimension)


def _embed(
    catalog: Catalog,
    layout: Layout,
    starting: StartingEncoder,
    roots: Mapping[Path, Sequence[str]],
    options: IndexOptions,
    timings: Timings,
    progress: ProgressCallback | None,
) -> IndexReport:
    """Embed what is new below `roots` and commit it batch by batch; remove what is gone once the scan is complete."""
    report = IndexReport(layout.name, starting.space, models=[starting.space])
    limits, batch_size = options.limits, options.batch_size
    # Unreadable roots are scanned too: the scan records why they cannot be read.
    present = {root: globs for root, globs in roots.items() if not is_absent(root)}
    catalog.begin_scan()
    in_flight: set[str] = set()
    broken: dict[tuple[str, str], Failure] = {}
    mounts: list[Path] = []
    tally = Tally(present, progress)
    pool = DecodePool(
        options.workers or default_workers(),
        starting.preprocessing,
        limits,
        examine=find_evidence,
        ahead=2 * batch_size,
        on_decoded=lambda seconds: timings.add("decode", seconds),
    )
    try:
        with pool:
            scanned = pipeline.scan(present, mounts)
            changed = pipeline.diff(scanned, catalog, starting.space, present, limits, report, tally)
            items: Iterable[Item] = timings.each("scan", changed)
            while True:
                retries: list[Item] = []
                hashed = pipeline.hash_all(items, limits, timings)
                recognised = pipeline.recognise(hashed, catalog, starting.space, in_flight, on_new=starting.start)
                decoded = pipeline.decode(recognised, pool)
                for batch in pipeline.batches(decoded, batch_size):
                    encoder = starting.so_far()
                    with timings.measure("encode"):
                        embeddings = pipeline.encode(batch, encoder, batch_size, catalog)
                    with timings.measure("commit"):
                        postponed = pipeline.commit(batch, embeddings, catalog, limits, report, broken)
                    in_flight.difference_update(item.hash for item in batch if item.needs_decoding)
                    retries += postponed
                    tally.step(len(batch) - len(postponed))
                if not retries:
                    break
                items = retries
    finally:
        tally.close()
    starting.so_far()  # before anything is removed
    vanished = remove_moved_and_deleted(catalog, roots, mounts, remove_missing=options.remove_missing)
    report.notes = vanished.notes
    report.moved = vanished.moved
    report.removed = vanished.removed - vanished.moved
    report.added -= vanished.moved
    report.duplicates = max(0, report.duplicates - vanished.moved)
    return report


def default_workers() -> int:
    """Return the number of decoding processes: one per core, at most eight, beyond which encoding is the bottleneck."""
    return max(1, min(8, available_cores()))


def _naming(model: str, progress: ProgressCallback | None) -> ProgressCallback | None:
    """Return a callback that adds the model's id to the stage."""
    if progress is None:
        return None
    return lambda p: progress(Progress(f"{p.stage} with {model}", p.done, p.total, p.rate))
