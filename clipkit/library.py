"""`Library`: one index on disk over folders of pictures, and everything that can be done with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.coverage import ModelCoverage, coverage
from clipkit.catalog.filters import Filters
from clipkit.catalog.info import LibraryInfo, library_info
from clipkit.catalog.layout import Layout
from clipkit.catalog.rows import Failure
from clipkit.errors import ClipkitError
from clipkit.indexing.report import IndexReport
from clipkit.progress import ProgressCallback
from clipkit.searching import library_models
from clipkit.searching.query import Query, as_query
from clipkit.searching.result import SearchResult

if TYPE_CHECKING:
    from clipkit.catalog.exporting import ExportReport
    from clipkit.catalog.generated import Generated
    from clipkit.generation.bridge import Bridge
    from clipkit.generation.job import OperationOptions
    from clipkit.generation.operations.blend import Blend
    from clipkit.generation.operations.masks import MaskLike
    from clipkit.generation.operations.sources import Reference
    from clipkit.indexing.checking import CheckReport
    from clipkit.searching.searcher import Searcher
    from clipkit.searching.searchers import Searchers


class Library:
    """One index on disk, from `Library.open`, `Library.create` or `Library.open_or_create`; close it, or use `with`.

    Searching needs no lock and sees the last commit; indexing takes the library's write lock.
    """

    def __init__(self, layout: Layout, catalog: Catalog) -> None:
        self.layout, self.catalog = layout, catalog

    @cached_property
    def searchers(self) -> Searchers:
        """What searches load, kept until the catalog changes."""
        from clipkit.searching.searchers import Searchers

        return Searchers(self.layout)

    @classmethod
    def open(cls, path: str | Path) -> Library:
        """Open the library in the folder `path`. Raises LibraryNotFound or LibraryDamaged."""
        layout = Layout(Path(path).absolute())
        return cls(layout, Catalog.open(layout.catalog))

    @classmethod
    def create(cls, path: str | Path, model: str | None = None) -> Library:
        """Create an empty library in the folder `path`, by default for the recommended model.

        The model must be on this machine: nothing is downloaded, see `pull_model`.
        Raises ClipkitError if there is a library already, ModelNotAvailable.
        """
        layout = Layout(Path(path).absolute())
        if layout.catalog.exists():
            raise ClipkitError(f"there is already a library at {layout.folder}")
        return cls.open_or_create(path, model)

    @classmethod
    def open_or_create(cls, path: str | Path, model: str | None = None) -> Library:
        """Open the library in the folder `path`, or create it; `model` is used for a new one only, as in `create`."""
        layout = Layout(Path(path).absolute())
        if layout.catalog.exists():
            library = cls.open(path)
            if library.catalog.spaces():
                return library
            library.close()
        from clipkit.models.hub.locating import default_model
        from clipkit.models.loading import dimension_of
        from clipkit.models.reference import ModelRef

        chosen = ModelRef.resolve(model) if model else default_model()
        dimension = dimension_of(chosen)
        library = cls(layout, Catalog.open(layout.catalog, create=True))
        library.catalog.add_space(chosen.id, dimension)
        return library

    def for_thread(self) -> Library:
        """Return the same library over a connection of its own, for one more thread; close it there.

        All of them share the loaded models and vectors.
        """
        library = Library(self.layout, Catalog.open(self.layout.catalog))
        library.searchers = self.searchers
        return library

    def close(self) -> None:
        """Close the catalog."""
        self.catalog.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The folder that holds the library."""
        return self.layout.folder

    @property
    def name(self) -> str:
        """The name of that folder."""
        return self.layout.name

    # --- indexing and searching ---

    def index(
        self,
        paths: Sequence[str | Path] = (),
        *,
        model: str | None = None,
        exclude: Sequence[str] = (),
        include_generated: bool | None = None,
        device: str = "auto",
        batch_size: int = 32,
        workers: int | None = None,
        max_pixels: int | None = None,
        remove_missing: bool = False,
        progress: ProgressCallback | None = None,
    ) -> IndexReport:
        """Bring the library up to date with the pictures below `paths`, or below all its folders.

        New and changed pictures are embedded and committed batch by batch; deleted ones are removed.

        `model`: embed with this model only, and add it to the library if it is new; by default, with every model of the
        library. A model that is not on this machine is then skipped, with a note in the report.
        `exclude`: globs of names, or of paths below a folder, remembered with the folders. Where folders are nested,
        the innermost decides.
        `include_generated`: whether searches show pictures from these folders that are marked as generated; None keeps
        each folder's setting, at first False.
        `device`: auto, cpu, cuda or mps.
        `workers`: decoding processes, by default one per core, at most 8.
        `max_pixels`: refuse larger pictures.
        `remove_missing`: also remove the pictures of folders that are missing, empty, or on another drive than before;
        by default they are kept, with a note in the report, because a drive may be away.

        Raises ClipkitError for a path that does not exist, LibraryBusy, ModelNotAvailable.
        """
        from clipkit.images.limits import Limits
        from clipkit.indexing.roots import choose_roots
        from clipkit.indexing.run import IndexOptions, index_library
        from clipkit.models.reference import ModelRef

        self.searchers.clear()
        roots = choose_roots([Path(path) for path in paths], exclude, self.catalog, remove_missing=remove_missing)
        models = [ModelRef.resolve(model).id] if model else list(self.catalog.spaces()) or [self.model]
        options = IndexOptions(
            include_generated=include_generated,
            remove_missing=remove_missing,
            device=device,
            batch_size=batch_size,
            workers=workers,
            limits=Limits(pixels=max_pixels) if max_pixels else Limits(),
        )
        return index_library(self.catalog, self.layout, models, roots, options, progress)

    def search(
        self,
        query: Query | str,
        k: int = 10,
        *,
        offset: int = 0,
        filters: Filters | None = None,
        min_confidence: float | None = None,
        generate: Literal["auto", "never", "always"] = "never",
        fresh: bool = False,
        model: str | None = None,
        device: str = "auto",
        progress: ProgressCallback | None = None,
    ) -> SearchResult:
        """Return the k pictures nearest to the query among those that pass the filters, and whether they match.

        `offset`: how many nearer pictures to leave out, for the pages after the first.
        `min_confidence`: in [0, 1], replaces the calibrated threshold of the match decision.
        `generate`: "auto" generates a picture if nothing matches and a decoder on this machine can do so at once, and
        adds a note otherwise; "always" generates one in any case.
        `fresh`: generate a new picture even if there is one for the same query.
        `model`: one of the library's models, by default `Library.model`. A note says so if it does not cover all
        pictures.

        Raises BadQuery, UnreadableImage, FetchRefused, ModelNotAvailable, DecoderNotAvailable.
        """
        searcher = self._searcher(library_models.resolve_model(self.catalog, self.layout, model), device)
        result = searcher.search(as_query(query), k, offset=offset, filters=filters, min_confidence=min_confidence)
        if generate == "never":
            return result
        from clipkit.generation.fallback import generate_fallback

        return generate_fallback(
            self.catalog, self.layout, result, when=generate, fresh=fresh, device=device, progress=progress
        )

    def _searcher(self, model: str, device: str) -> Searcher:
        """Return the searcher for a model, kept until the catalog changes."""
        return self.searchers.get(self.catalog, model, device)

    def contact_sheet(self, result: SearchResult, path: str | Path) -> None:
        """Write the hits as one labelled picture, in the format of the extension. Raises ClipkitError."""
        from clipkit.searching.contact_sheets import hits_sheet, save_sheet

        save_sheet(hits_sheet(result), Path(path))

    def comparison_sheet(self, results: Sequence[tuple[str, SearchResult]], path: str | Path) -> None:
        """Write the best hits of several searches as one picture, a titled row for each. Raises ClipkitError."""
        from clipkit.searching.contact_sheets import comparison_sheet, save_sheet

        save_sheet(comparison_sheet(results), Path(path))

    # --- generated pictures and bridges ---

    def generate(
        self,
        query: Query | str,
        n: int = 1,
        *,
        steps: int | None = None,
        **options: Unpack[OperationOptions],
    ) -> list[Generated]:
        """Generate n pictures of the query, mark them as generated, and record them.

        `decoder`: an id from `clipkit decoders list`, or a folder; it is downloaded if necessary. By default, the
        decoder for the library's model, which must be on this machine.
        `may_fetch`: False to download nothing, even if `decoder` is named.
        `seed`: of the first picture; picture i has `seed + i`. The same seed generates the same bytes on the same
        machine.
        `steps`, `guidance`, `size`: denoising steps, scale of classifier-free guidance, and side in pixels; the
        decoder's own by default. What the query avoids replaces the unconditional embedding of the guidance.
        `output`: the file to write, by default one in the library's folder `generated`.
        `route`: "bridge" maps pictures across a bridge even if the decoder's image tower is on this machine. Each
        result's `route` tells how every term reached the decoder.
        `label`: write a visible mark too, a small line of text in a corner.
        `device`: auto, cpu, cuda or mps.
        `say`: called with a line about the cost of a download, before it begins.

        Raises BadQuery, UnreadableImage, FetchRefused, DecoderNotAvailable.
        """
        from clipkit.generation.generate import generate

        return generate(as_query(query), n, steps=steps, catalog=self.catalog, layout=self.layout, **options)

    def vary(
        self,
        picture: Reference,
        n: int = 4,
        *,
        strength: float = 1.0,
        steps: int | None = None,
        **options: Unpack[OperationOptions],
    ) -> list[Generated]:
        """Generate n variations: pictures that share what a picture shows, from its embedding.

        `picture`: the id of a hit, "generated:N", a path, a URL, the bytes of a file, or a Pillow image.
        `strength`: below 1 they keep the picture's layout too, the more the lower it is.
        `steps`, `options`: as for `generate`.

        Raises BadQuery, UnreadableImage, FetchRefused, DecoderNotAvailable.
        """
        from clipkit.generation.operations.vary import vary

        return vary(picture, n, strength=strength, steps=steps, catalog=self.catalog, layout=self.layout, **options)

    def blend(
        self,
        items: Sequence[Reference],
        steps: int = 5,
        *,
        weights: Sequence[float] | None = None,
        denoising_steps: int | None = None,
        **options: Unpack[OperationOptions],
    ) -> Blend:
        """Generate the pictures on the way from the first of two or more pictures or texts over all others to the last.

        Image embeddings are interpolated, directions on the sphere and norms linearly; texts go through the prior
        first. Every picture starts from the same noise.

        `items`: as `picture` of `vary`; a string that is no picture is a text.
        `steps`: the number of pictures, both ends included.
        `weights`: one for each item, for a single picture instead.
        `denoising_steps`: as `steps` of `generate`. `options`: as for `generate`; the strip of all pictures is written
        to `output`, and they are numbered.

        Raises BadQuery, UnreadableImage, FetchRefused, DecoderNotAvailable.
        """
        from clipkit.generation.operations.blend import blend

        return blend(
            items,
            steps,
            weights=weights,
            denoising_steps=denoising_steps,
            catalog=self.catalog,
            layout=self.layout,
            **options,
        )

    def restyle(
        self,
        picture: Reference,
        from_: str,
        to: str,
        n: int = 1,
        *,
        amount: float | None = None,
        strength: float | None = None,
        steps: int | None = None,
        **options: Unpack[OperationOptions],
    ) -> list[Generated]:
        """Generate n pictures that change a picture from what one text says to what another says, keeping its layout.

        The picture's embedding is turned towards the difference of the texts' embeddings (the text diffs of Ramesh et
        al., 2022, section 3.3); a decoder that takes a prompt is guided towards one text and away from the other.

        `picture`: as for `vary`.
        `from_`, `to`: such as "a cat" and "a dog".
        `amount`: how far to turn, above 0 and at most 1, which is all the way; 0.25 to 0.5 is usual.
        `strength`: how little of the layout to keep, up to 1 for nothing.
        `steps`, `options`: as for `generate`.

        Raises BadQuery, UnreadableImage, FetchRefused, DecoderNotAvailable.
        """
        from clipkit.generation.operations.restyle import restyle

        return restyle(
            picture,
            from_,
            to,
            n,
            amount=amount,
            strength=strength,
            steps=steps,
            catalog=self.catalog,
            layout=self.layout,
            **options,
        )

    def edit(
        self,
        picture: Reference,
        text: str,
        n: int = 1,
        *,
        mask: MaskLike | None = None,
        box: Sequence[int] | None = None,
        steps: int | None = None,
        **options: Unpack[OperationOptions],
    ) -> list[Generated]:
        """Paint what a text says into a part of a picture, n times, and mark the results as edited.

        All pixels outside the box or mask are the original's, bit for bit, in PNG and WebP files; inside it the new
        ones fade in over a narrow seam. The original's file is never overwritten.

        `picture`: as for `vary`.
        `mask`: white where the picture is repainted: a file, a URL, the bytes of a file, a Pillow image or an array, of
        the shape of the upright picture. `box`: instead, (x, y, width, height) in its pixels.
        `steps`, `options`: as for `generate`; `size` is the side in pixels at which the decoder paints.

        Raises BadQuery, UnreadableImage, FetchRefused, DecoderNotAvailable.
        """
        from clipkit.generation.operations.edit import edit

        return edit(
            picture,
            text,
            mask=mask,
            box=box,
            count=n,
            steps=steps,
            catalog=self.catalog,
            layout=self.layout,
            **options,
        )

    def extend(
        self,
        picture: Reference,
        text: str = "",
        n: int = 1,
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        steps: int | None = None,
        **options: Unpack[OperationOptions],
    ) -> list[Generated]:
        """Continue a picture beyond its edges by so many pixels, n times, and mark the results as edited.

        All pixels of the picture are kept. What is new shows what `text` says, or more of the same without one.

        `picture`: as for `vary`. `steps`, `options`: as for `edit`.

        Raises BadQuery, UnreadableImage, FetchRefused, DecoderNotAvailable.
        """
        from clipkit.generation.operations.extend import extend

        return extend(
            picture,
            text,
            left=left,
            right=right,
            top=top,
            bottom=bottom,
            count=n,
            steps=steps,
            catalog=self.catalog,
            layout=self.layout,
            **options,
        )

    def generated(self) -> list[Generated]:
        """Return the generated pictures, oldest first."""
        from clipkit.catalog.generated import list_generated

        return list(list_generated(self.catalog))

    def command_of(self, picture: Generated) -> str | None:
        """Return the command line that makes a picture of `generated` again, with the same bytes on the same machine.

        None if it was made of pictures that have no names, which only Python can pass.
        """
        from clipkit.generation.command_line import command_line

        return command_line(picture, self.layout)

    def remove_generated(self, ids: Sequence[int] | None = None) -> list[Generated]:
        """Delete generated pictures, files and records, by their ids or all; return those that existed."""
        from clipkit.catalog.generated import delete_generated

        return delete_generated(self.catalog, ids)

    def fit_bridge(
        self,
        to: str,
        *,
        model: str | None = None,
        sample: int = 5000,
        device: str = "auto",
        progress: ProgressCallback | None = None,
    ) -> Bridge:
        """Fit a bridge from one of the library's models, `model` or the default, to what a decoder takes, and save it.

        `to`: a model's id, or a decoder's id or folder, whose image tower is then used.
        `sample`: the number of pictures to fit on, at most; those without an embedding of `to` are encoded.

        The result's `report` has the scores on held-out pictures.
        Raises ClipkitError, ModelNotAvailable, DecoderNotAvailable.
        """
        from clipkit.generation.bridge_fitting import fit_bridge

        source = library_models.resolve_model(self.catalog, self.layout, model)
        return fit_bridge(self.catalog, self.layout, source, to, sample=sample, device=device, progress=progress)

    def bridges(self) -> list[Bridge]:
        """Return the library's bridges. Raises ClipkitError if one is corrupt."""
        from clipkit.generation.bridge import load_all

        return load_all(self.layout.bridges)

    def remove_bridges(self, to: str | None = None) -> int:
        """Delete the bridges to a model or decoder, or all; return how many."""
        from clipkit.generation.bridge_fitting import remove_bridges

        return remove_bridges(self.layout.bridges, to)

    # --- models ---

    @property
    def model(self) -> str:
        """The id of the model that is searched by default: the first one, unless `use_model` chose another."""
        return library_models.default_model(self.catalog, self.layout)

    def models(self) -> list[ModelCoverage]:
        """Return the library's models, the default one first, and how many of its pictures each covers."""
        return coverage(self.catalog)

    def use_model(self, model: str) -> None:
        """Make this model of the library the default for searches. Raises ClipkitError if it does not have it."""
        with self.catalog.writing():
            library_models.use_model(self.catalog, self.layout, model)

    def remove_model(self, model: str) -> int:
        """Delete a model's embeddings and search index from the library; return the number of embeddings.

        Raises ClipkitError if the library does not have that model, or has no other.
        """
        with self.catalog.writing():
            self.searchers.clear()
            return library_models.remove_model(self.catalog, self.layout, model)

    # --- maintenance ---

    def info(self) -> LibraryInfo:
        """Return what the library holds, in numbers."""
        from clipkit.searching.library_matcher import calibration_in_use
        from clipkit.vectors.manifest import describe_index

        indexes, match = {}, {}
        for model in self.catalog.spaces():
            if index := describe_index(self.layout.vectors(model)):
                indexes[model] = index
            if calibration := calibration_in_use(self.layout.match_statistics(model)):
                match[model] = calibration
        return library_info(self.catalog, indexes, match)

    def failures(self) -> Iterator[Failure]:
        """Yield the files that could not be indexed, and why."""
        return self.catalog.failures()

    def check(self, *, repair: bool = False, progress: ProgressCallback | None = None) -> CheckReport:
        """Check the catalog and the search indexes for damage; `repair` rebuilds what can be rebuilt."""
        from clipkit.indexing.checking import check

        self.searchers.clear()
        return check(self.catalog, self.layout, repair=repair, progress=progress)

    def remove(self, paths: Sequence[str | Path]) -> int:
        """Remove files, or everything below folders, from the library; return how many. The pictures stay on disk."""
        with self.catalog.writing():
            self.searchers.clear()
            return self.catalog.remove([Path(os.path.abspath(Path(path).expanduser())) for path in paths])

    def purge_orphans(self) -> int:
        """Delete the embeddings of pictures that no file holds any more; return how many."""
        with self.catalog.writing():
            return self.catalog.purge_orphans()

    def delete(self) -> None:
        """Delete the whole library from disk, except the indexed pictures, which are never touched."""
        with self.catalog.writing():
            self.catalog.close()
            self.layout.delete_contents()
        self.layout.delete_locks()

    def export(
        self,
        folder: str | Path,
        *,
        model: str | None = None,
        part_size: int = 1_000_000,
        progress: ProgressCallback | None = None,
    ) -> ExportReport:
        """Write a model's embeddings (npy) and the metadata (parquet), in the layout that clip-retrieval reads."""
        from clipkit.catalog.exporting import export

        wanted = library_models.resolve_model(self.catalog, self.layout, model)
        return export(self.catalog, wanted, Path(folder), part_size=part_size, progress=progress)
