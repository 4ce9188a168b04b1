"""One run of the indexer over the spaces of a library, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clipkit.catalog.catalog import Catalog
from clipkit.errors import ModelNotAvailable
from clipkit.images.limits import Limits
from clipkit.indexing import run
from clipkit.indexing.report import IndexReport
from clipkit.models.encoder import Encoder, load_encoder
from clipkit.progress import Progress, ProgressCallback


def index_spaces(
    catalog: Catalog,
    spaces: Sequence[str],
    roots: Mapping[Path, Sequence[str]],
    *,
    library: str,
    prepare: Callable[[Encoder], None],
    publish: Callable[[Encoder, ProgressCallback | None], None],
    include_generated: bool | None = None,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    limits: Limits | None = None,
    remove_missing: bool = False,
    progress: ProgressCallback | None = None,
) -> IndexReport:
    """Brings every space up to date with `roots`, each with the globs it leaves out; hold the catalog's write lock.

    `prepare` is called before a space is filled, and `publish` once it is and it is settled which of the pictures that
    a model made are shown. Of several spaces those whose model cannot be loaded are passed over, with a note in the
    report; raises ModelNotAvailable if that leaves none.
    """
    for root, globs in roots.items():  # before anything else, so that a run that is killed can be taken up again
        catalog.add_roots([root], globs, include_generated=include_generated)
    total: IndexReport | None = None
    notes: list[str] = []
    for space in spaces:
        told = _named_after(space, progress) if len(spaces) > 1 else progress
        try:
            encoder = load_encoder(space, device, progress=told)
        except ModelNotAvailable as error:
            notes.append(str(error))
            continue
        if encoder.note:
            notes.append(encoder.note)
        prepare(encoder)
        report = run.index(
            catalog, encoder, roots, library=library, batch_size=batch_size, workers=workers, limits=limits,
            remove_missing=remove_missing, progress=told,
        )  # fmt: skip
        notes += report.notes
        catalog.show_by_roots()
        publish(encoder, told)
        total = report if total is None else total.and_in(report)
    if total is None:
        raise ModelNotAvailable(notes[0])
    total.notes = list(dict.fromkeys(notes))  # of several spaces each says the same of the folders
    return total


def _named_after(space: str, progress: ProgressCallback | None) -> ProgressCallback | None:
    """Tells which space the work is for, where it is done for several."""
    if progress is None:
        return None
    return lambda p: progress(Progress(f"{p.stage} in {space}", p.done, p.total, p.rate))
