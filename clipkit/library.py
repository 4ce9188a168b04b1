"""`Library`: one index on disk over folders of pictures, and all that can be done with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.coverage import ModelCoverage, coverage, make_default, remove_space
from clipkit.catalog.facts import Facts, facts
from clipkit.catalog.filters import Filters
from clipkit.catalog.folders import own_names
from clipkit.catalog.records import Failure
from clipkit.errors import BadQuery, ClipkitError, LibraryNotFound
from clipkit.indexing.report import IndexReport
from clipkit.progress import ProgressCallback
from clipkit.searching.query import Query, as_query
from clipkit.searching.result import SearchResult

if TYPE_CHECKING:
    from clipkit.catalog.exporting import ExportReport
    from clipkit.catalog.generated import Generated
    from clipkit.generation.bridge import Bridge
    from clipkit.indexing.checking import CheckReport
    from clipkit.models.encoder import Encoder
    from clipkit.searching.searcher import Searcher


def library_folder(name: str = "default", indexes: Path | None = None) -> Path:
    """Where a library of that name lives: below `indexes`, else $CLIPKIT_INDEXES, else ./indexes if it is there, else
    the user's data folder. Raises ClipkitError for names that are no plain folder name."""
    if not name or name in (".", "..") or set(name) & set("/\\:\0"):
        raise ClipkitError(f"{name!r} cannot be the name of a library: use letters, digits, - and _")
    if indexes is None:
        import platformdirs

        here = Path("indexes")
        variable = os.environ.get("CLIPKIT_INDEXES")
        data = Path(platformdirs.user_data_dir("clipkit", appauthor=False)) / "indexes"
        indexes = Path(variable) if variable else here if here.is_dir() else data
    return indexes.expanduser().absolute() / name


class Library:
    """One index on disk. Use `Library.open`, `Library.create` or `Library.open_or_create`; close it, or use `with`.

    Searching needs no lock and sees what was committed last; indexing takes the library's write lock.
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        self.path, self.catalog = path, catalog
        self._searchers: dict[str, Searcher] = {}

    @classmethod
    def open(cls, path: str | Path) -> Library:
        """The library in the folder `path`. Raises LibraryNotFound or LibraryDamaged."""
        folder = Path(path).absolute()
        return cls(folder, Catalog.open(folder / "catalog.db"))

    @classmethod
    def create(cls, path: str | Path, space: str | None = None) -> Library:
        """A new, empty library in the folder `path`; without a `space` it gets the recommended one, if that is on disk.

        Raises ClipkitError if there is a library already, ModelNotAvailable; nothing is downloaded: `pull_model` does.
        """
        folder = Path(path).absolute()
        if (folder / "catalog.db").exists():
            raise ClipkitError(f"there is a library at {folder} already")
        return cls.open_or_create(folder, space)

    @classmethod
    def open_or_create(cls, path: str | Path, space: str | None = None) -> Library:
        """The library in the folder `path`, made anew if there is none; `space` is for a new one, as in `create`."""
        folder = Path(path).absolute()
        if (folder / "catalog.db").exists():
            library = cls.open(folder)
            if library.catalog.spaces():
                return library
            library.close()
        from clipkit.models.encoder import load_encoder
        from clipkit.models.hub.locating import default_space

        encoder = load_encoder(space or default_space(), export=False)
        library = cls(folder, Catalog.open(folder / "catalog.db", create=True))
        library.catalog.add_space(encoder.space, encoder.dimension)
        return library

    def close(self) -> None:
        self.catalog.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def space(self) -> str:
        """The space that is searched by default: the library's first, or the one that `set_default_space` chose."""
        spaces = self.catalog.spaces()
        if not spaces:
            raise LibraryNotFound(f"{self.path} holds no index yet; run `clipkit index FOLDER`")
        return next(iter(spaces))

    def vectors_folder(self, space: str) -> Path:
        """Where the search index of a space lies; the id is quoted to be one folder's name."""
        return self.path / "vectors" / quote(space, safe="-_.")

    # --- the verbs ---

    def index(
        self,
        paths: Sequence[str | Path] = (),
        *,
        space: str | None = None,
        exclude: Sequence[str] = (),
        include_generated: bool | None = None,
        device: str = "auto",
        batch_size: int = 32,
        workers: int | None = None,
        max_pixels: int | None = None,
        remove_missing: bool = False,
        progress: ProgressCallback | None = None,
    ) -> IndexReport:
        """Brings the library up to date with the pictures below `paths`, or below all its folders.

        New and changed pictures are embedded, batch by batch, each committed as it is done; vanished ones leave.
        This is done in every space of the library, one after another, or only in `space`, which is added if it is new:
        then all pictures below the paths are embedded in it, and nothing of the other spaces is lost. A space whose
        model is not on this machine is passed over, with a note in the report.
        `exclude`: globs of names or of paths below a folder, remembered with the folders; of folders within each other
        the innermost decides. Pictures beyond `max_pixels` are refused. A folder that is not there, empty, or on
        another drive than before counts as away and keeps its pictures, with a note, unless `remove_missing`.

        Pictures whose marks say that a model made them are embedded too, but no search shows them, unless
        `include_generated` says so for these folders; None is what was said of each before, at first False.

        Raises ClipkitError for a path that is not there, LibraryBusy, ModelNotAvailable.
        """
        from clipkit.images.decoding import Limits
        from clipkit.indexing.models import index_spaces
        from clipkit.indexing.roots import chosen_roots
        from clipkit.models.registry import canonical_id

        known = dict(self.catalog.roots())
        roots = chosen_roots([Path(path) for path in paths], exclude, known, remove_missing=remove_missing)
        chosen = [canonical_id(space)] if space else list(self.catalog.spaces()) or [self.space]
        started = time.monotonic()
        with self.catalog.writing():
            report = index_spaces(
                self.catalog, chosen, roots, library=self.name, prepare=self._prepare, publish=self._publish,
                include_generated=include_generated, device=device, batch_size=batch_size, workers=workers,
                limits=Limits(pixels=max_pixels) if max_pixels else Limits(), remove_missing=remove_missing,
                progress=progress,
            )  # fmt: skip
        facts = self.info()
        report.images, report.generated = facts.images, facts.marked
        report.seconds = time.monotonic() - started  # with what is made once for a model that is new
        return report

    def _prepare(self, encoder: Encoder) -> None:
        if encoder.space not in self.catalog.spaces():
            # What a space of that name left here, if its removal was cut short, speaks of embeddings that are gone.
            shutil.rmtree(self.vectors_folder(encoder.space), ignore_errors=True)
            self.catalog.add_space(encoder.space, encoder.dimension)

    def _publish(self, encoder: Encoder, progress: ProgressCallback | None) -> None:
        from clipkit.searching.searcher import Searcher

        self._searchers.clear()
        Searcher(self.catalog, encoder, self.vectors_folder(encoder.space)).publish_if_needed(progress=progress)

    def search(
        self,
        query: Query | str,
        k: int = 10,
        *,
        filters: Filters | None = None,
        min_confidence: float | None = None,
        generate: Literal["auto", "never", "always"] = "never",
        fresh: bool = False,
        space: str | None = None,
        device: str = "auto",
        progress: ProgressCallback | None = None,
    ) -> SearchResult:
        """The k pictures nearest to the query among those for which the filters hold, and whether they match.

        `min_confidence` in [0, 1] replaces the calibrated threshold of the match decision. `space`: which of the
        library's spaces is searched, by default its first; a note says so where that does not cover all pictures.
        When nothing matches, `generate="auto"` makes the missing picture if a decoder can do so at once on this
        machine, and says in a note why not if not; "always" makes one whatever matches. The same query gets the picture
        made before, unless `fresh`.
        Raises BadQuery, UnreadableImage, FetchRefused, ModelNotAvailable, DecoderNotAvailable.
        """
        from clipkit.searching.searcher import known_share

        if k < 1:
            raise BadQuery("k must be at least 1")
        if min_confidence is not None and not 0 <= min_confidence <= 1:  # NaN too
            raise BadQuery(f"the minimum confidence must be a number from 0 to 1, not {min_confidence}")
        asked, filters = as_query(query), filters or Filters()
        if filters.under:
            names = [name for path in filters.under for name in own_names(self.catalog, Path(path))]
            filters = replace(filters, under=tuple(names))
        result = self._searcher(self._own_space(space), device).search(
            asked, k, filters=filters, min_confidence=min_confidence, library=self.name
        )
        if generate == "always" or (generate == "auto" and not result.matched):
            from clipkit.generation.fallback import make_missing

            return make_missing(
                self, result, always=generate == "always", fresh=fresh, device=device, progress=progress,
                known_words=known_share(asked, result.unknown_words),
            )  # fmt: skip
        return result

    def generate(
        self,
        query: Query | str,
        n: int = 1,
        *,
        decoder: str | None = None,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        output: str | Path | None = None,
        route: Literal["auto", "bridge"] = "auto",
        device: str = "auto",
        say: Callable[[str], None] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Generated]:
        """Makes n pictures of the query, marks them as made, and records them.

        They go to the library's folder `generated`, or to `output`. `decoder`: an id that `clipkit decoders list` names
        or a folder; by default the one that takes this library's embeddings. One that is named is downloaded if it is
        not here; `say` gets a line beforehand on what it costs. Pictures of the library are taken from the catalog
        where it holds them in a space of the decoder's; `route="bridge"` sends pictures across a bridge though the
        decoder's image tower is here. Each result's `route` says what was done. Picture i has the seed `seed + i`; the
        same seed gives the same bytes on the same machine. `steps` of denoising, `guidance` scale and `size` in pixels
        default to the decoder's own. What the query avoids takes the place of the empty condition in classifier-free
        guidance. Raises BadQuery, UnreadableImage, FetchRefused, DecoderNotAvailable.
        """
        from clipkit.generation.fallback import generate

        return generate(
            as_query(query), n, library=self, decoder=decoder, seed=seed, steps=steps, guidance=guidance, size=size,
            output=Path(output) if output else None, route=route, device=device, say=say, progress=progress,
        )  # fmt: skip

    def fit_bridge(
        self,
        to: str,
        *,
        space: str | None = None,
        sample: int = 5000,
        device: str = "auto",
        progress: ProgressCallback | None = None,
    ) -> Bridge:
        """Fits a bridge from a space of the library, its first or `space`, to what a decoder takes, and keeps it.

        `to`: a space's id, or a decoder's id or folder, whose image tower is used then. At most `sample` pictures are
        embedded in it, but for those that the library holds in that space already. The result's `report` has the scores
        on pictures held out of the fit. Raises ClipkitError, ModelNotAvailable, DecoderNotAvailable.
        """
        from clipkit.generation.bridge_fitting import fit_bridge

        return fit_bridge(self, to, space=space, sample=sample, device=device, progress=progress)

    def bridges(self) -> list[Bridge]:
        """The library's bridges. Raises ClipkitError for a torn one."""
        from clipkit.generation.bridge import load_all

        return load_all(self.path / "bridges")

    def remove_bridges(self, to: str | None = None) -> int:
        """Deletes the bridges to a space or decoder, or all; returns how many."""
        from clipkit.generation.bridge_fitting import remove_bridges

        return remove_bridges(self, to)

    def generated(self) -> list[Generated]:
        """The pictures that were made, the oldest first."""
        from clipkit.catalog.generated import listed

        return list(listed(self.catalog))

    def remove_generated(self, ids: Sequence[int] | None = None) -> list[Generated]:
        """Deletes made pictures, files and records, by their ids or all; returns those that were there."""
        from clipkit.catalog.generated import forget

        return forget(self.catalog, ids)

    def info(self) -> Facts:
        """What the library holds, in numbers."""
        return facts(self.catalog)

    def failures(self) -> Iterator[Failure]:
        """Files that gave no picture, and why."""
        return self.catalog.failures()

    def check(self, *, repair: bool = False, progress: ProgressCallback | None = None) -> CheckReport:
        """Looks for damage in catalog and search indexes; with `repair`, rebuilds what can be rebuilt."""
        from clipkit.indexing.checking import check

        self._searchers.clear()
        return check(self, repair=repair, progress=progress)

    def remove(self, paths: Sequence[str | Path]) -> int:
        """Takes files, or all below folders, out of the library; returns how many. Nothing on disk is touched."""
        with self.catalog.writing():
            self._searchers.clear()
            return self.catalog.remove([Path(os.path.abspath(Path(path).expanduser())) for path in paths])

    def purge_orphans(self) -> int:
        """Drops the embeddings of pictures whose files have all gone; returns how many."""
        with self.catalog.writing():
            return self.catalog.purge_orphans()

    def delete(self) -> None:
        """Deletes the whole library from disk; pictures are never touched."""
        with self.catalog.writing():
            self.catalog.close()
            for name in ("vectors", "generated", "bridges"):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for suffix in ("", "-wal", "-shm"):
                (self.path / f"catalog.db{suffix}").unlink(missing_ok=True)
        for name in ("catalog.lock", "catalog.migrating"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def spaces(self) -> list[ModelCoverage]:
        """The library's spaces, the default one first, and how many of its pictures each covers."""
        return coverage(self.catalog)

    def set_default_space(self, space: str) -> None:
        """Has searches look in this space of the library unless they name another. Raises ClipkitError for others."""
        with self.catalog.writing():
            make_default(self.catalog, self._own_space(space))

    def remove_space(self, space: str) -> int:
        """Takes a space out of the library, its embeddings and its search index; returns how many embeddings.

        Raises ClipkitError if the library has no such space, or no other.
        """
        with self.catalog.writing():
            chosen = self._own_space(space)
            if len(self.catalog.spaces()) == 1:
                raise ClipkitError(
                    f"{chosen} is the only space of library {self.name!r}: add another first "
                    "(`clipkit index --model ID`), or delete the whole library (`clipkit remove --library`)"
                )
            self._searchers.clear()
            # The files first: they are derived, and without them nothing is lost if this is killed here.
            shutil.rmtree(self.vectors_folder(chosen), ignore_errors=True)
            return remove_space(self.catalog, chosen)

    def export(
        self,
        folder: str | Path,
        *,
        space: str | None = None,
        part_size: int = 1_000_000,
        progress: ProgressCallback | None = None,
    ) -> ExportReport:
        """Writes a space's embeddings (npy) and metadata (parquet) in the layout that clip-retrieval reads."""
        from clipkit.catalog.exporting import export

        return export(self.catalog, self._own_space(space), Path(folder), part_size=part_size, progress=progress)

    def contact_sheet(self, result: SearchResult, path: str | Path) -> None:
        """Writes the hits as one labelled picture; its format goes by the name. Raises ClipkitError if it cannot."""
        from clipkit.searching.sheets import hits_sheet, save

        save(hits_sheet(result), Path(path))

    def comparison_sheet(self, results: Sequence[tuple[str, SearchResult]], path: str | Path) -> None:
        """Writes the best hits of several searches, a labelled row each."""
        from clipkit.searching.sheets import rows_sheet, save

        save(rows_sheet(results), Path(path))

    def _own_space(self, space: str | None) -> str:
        """One of the library's spaces, the default one if none is named; raises ClipkitError for others."""
        if space is None:
            return self.space
        from clipkit.models.registry import canonical_id

        wanted, there = canonical_id(space), list(self.catalog.spaces())
        if wanted not in there:
            raise ClipkitError(
                f"library {self.name!r} has no space {wanted}, it has {', '.join(there)}; "
                f"`clipkit index --model {wanted}` adds it"
            )
        return wanted

    def _searcher(self, space: str, device: str) -> Searcher:
        """Kept between searches, until the catalog changes."""
        from clipkit.models.encoder import load_encoder
        from clipkit.searching.searcher import Searcher

        searcher = self._searchers.get(space)
        if searcher is None or searcher.is_stale():
            encoder = load_encoder(space, device, search=True)
            searcher = self._searchers[space] = Searcher(self.catalog, encoder, self.vectors_folder(space))
        return searcher
