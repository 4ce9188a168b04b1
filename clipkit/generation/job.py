"""One job for a decoder: which decoder, with which settings, conditioned on what, and where its pictures go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from clipkit.atomic import clear_unfinished
from clipkit.catalog.catalog import Catalog
from clipkit.catalog.generated import EDITS, Generated
from clipkit.catalog.layout import Layout
from clipkit.catalog.rows import now
from clipkit.errors import BadQuery, DecoderNotAvailable
from clipkit.generation import availability, decoder_files, registry
from clipkit.generation.command_line import decoder_parameters
from clipkit.generation.saving import check_extension, numbered_file, save_generated, unused_file
from clipkit.progress import ProgressCallback
from clipkit.searching.library_models import default_model

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from clipkit.generation.decoder import Settings
    from clipkit.generation.routes import QueryTerm, RoutePlan, RoutePreference
    from clipkit.generation.synthesis import Condition
    from clipkit.marks.original import Edited


class SamplingOptions(TypedDict, total=False):
    """What decides on the pictures themselves, wherever they are made; see `Library.generate`."""

    decoder: str | None
    seed: int | None
    guidance: float | None
    size: int | None
    label: bool
    progress: ProgressCallback | None


class OperationOptions(SamplingOptions, total=False):
    """What every operation can be told; see `Library.generate`."""

    output: str | Path | None
    route: RoutePreference
    device: str
    say: Callable[[str], None] | None
    may_fetch: bool


class JobOptions(OperationOptions, total=False):
    """The same, and where it happens.

    `catalog`, `layout`: the library; without one, `decoder` and `output` are needed.
    """

    catalog: Catalog | None
    layout: Layout | None


@dataclass(frozen=True)
class Job:
    """A decoder with its settings, and a condition for each term, ready to make pictures.

    `settings`: of the first picture.
    `unconditional`: the unconditional embedding (d,), if it must replace the decoder's own.
    `output`: the file that the user named, None for files in the library's folder of generated pictures.
    `label`: whether pictures get a visible mark.
    """

    operation: str
    entry: registry.DecoderEntry
    settings: Settings
    plan: RoutePlan
    conditions: Sequence[Condition]
    unconditional: np.ndarray | None
    folder: Path
    output: Path | None
    catalog: Catalog | None
    device: str
    progress: ProgressCallback | None
    route: RoutePreference
    label: bool
    say: Callable[[str], None] | None

    def unconditional_embedding(self) -> np.ndarray | None:
        """Return the unconditional embedding (d,); None if the decoder supplies it itself."""
        from clipkit.generation.synthesis import unconditional_of

        return unconditional_of(self.entry, self.device) if self.unconditional is None else self.unconditional

    def file(self, text: str, seed: int, number: int = 0, count: int = 1) -> Path:
        """Return the file of picture `number` of `count`, from 0; `text` names it if the user did not."""
        if self.output:
            return numbered_file(self.output, number, count)
        return unused_file(self.folder, text, seed)

    def save(
        self,
        image: Image,
        path: Path,
        settings: Settings,
        *,
        query: dict[str, Any],
        parents: Sequence[str],
        parameters: dict[str, Any],
        edited: Edited | None = None,
    ) -> Generated:
        """Write a picture with its marks and record it; see `Generated` for `query`, `parents` and `parameters`.

        `edited`: what of it is new, if the rest is a picture's.
        """
        common = decoder_parameters(self.entry, settings.size)
        if self.route != "auto":
            common["route"] = self.route
        if self.label:
            common["label"] = True
        picture = Generated(
            path=path.absolute(),
            query=query,
            model=self.entry.space,
            prior="" if self.entry.takes_prompt else self.entry.prior or self.entry.id,
            decoder=self.entry.id,
            seed=settings.seed,
            steps=settings.steps,
            guidance=settings.guidance,
            created_at=now(),
            parents=tuple(parents),
            route=tuple(self.plan.to_json()),
            operation=self.operation,
            parameters=parameters | common,
        )
        return save_generated(self.catalog, picture, image, edited=edited, label=self.label, say=self.say)


def prepare(
    operation: str,
    terms: Sequence[QueryTerm],
    options: JobOptions,
    *,
    steps: int | None = None,
    strength: float = 1.0,
    needs_prior: bool = False,
) -> Job:
    """Choose the decoder, check everything that can be wrong, and find the condition of every term.

    `steps`: denoising steps, None for the decoder's own.
    `strength`: below 1 if the pictures keep a layout.
    `needs_prior`: whether texts must become image embeddings.
    Raises BadQuery, UnreadableImage, DecoderNotAvailable.
    """
    from clipkit.generation import routes, synthesis

    catalog, layout, named = options.get("catalog"), options.get("layout"), options.get("decoder")
    device, progress = options.get("device", "auto"), options.get("progress")
    if catalog is not None:
        catalog.require_writable()
    entry = choose_decoder(catalog, layout, named)
    check_abilities(entry, operation, strength=strength, needs_prior=needs_prior)
    settings = synthesis.resolve_settings(
        entry,
        seed=options.get("seed"),
        steps=steps,
        guidance=options.get("guidance"),
        size=options.get("size"),
    )
    folder, output = _destination(layout, options.get("output"))
    source = routes.LibrarySource(catalog, layout.bridges if layout else None)
    may_download = bool(named) and options.get("may_fetch", True)
    route = options.get("route", "auto")
    plan = routes.plan_routes(terms, entry, source, preference=route, named=may_download)
    side = shortest_side(entry)
    pictures = [r.term.open(side) if r.term.open and routes.needs_image(r) else None for r in plan.routes]
    if say := options.get("say"):
        for line in plan.notes:
            say(line)
    if plan.needs_download:
        decoder_files.download(entry, with_tower=plan.needs_tower, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    clear_unfinished(folder)
    conditions, unconditional = routes.resolve_conditions(plan, source, pictures, device)
    return Job(
        operation=operation,
        entry=entry,
        settings=settings,
        plan=plan,
        conditions=conditions,
        unconditional=unconditional,
        folder=folder,
        output=output,
        catalog=catalog,
        device=device,
        progress=progress,
        route=route,
        label=options.get("label", False),
        say=options.get("say"),
    )


def shortest_side(entry: registry.DecoderEntry) -> int:
    """Return how many pixels of a picture's shorter side are enough for the decoder and for any image tower."""
    return max(448, entry.size)


def choose_decoder(catalog: Catalog | None, layout: Layout | None, decoder: str | None) -> registry.DecoderEntry:
    """Return the decoder that is named, or the one for the library's models if it is on disk.

    Raises DecoderNotAvailable.
    """
    if decoder:
        return registry.resolve_decoder(decoder)
    if catalog is None or layout is None:
        raise DecoderNotAvailable("without a library, name a decoder, as in --decoder tiny")
    entry = availability.decoder_for_spaces(default_model(catalog, layout), *catalog.spaces())
    if not decoder_files.on_disk(entry):
        raise DecoderNotAvailable(availability.why_unavailable(entry))
    return entry


def check_abilities(
    entry: registry.DecoderEntry, operation: str, *, strength: float = 1.0, needs_prior: bool = False
) -> None:
    """Raise BadQuery or DecoderNotAvailable if a decoder cannot do an operation; see `prepare`."""
    if entry.inpaints_only and operation not in EDITS:
        raise DecoderNotAvailable(f"the decoder {entry.name} only paints into pictures: use `clipkit edit` or `extend`")
    if not 0 < strength <= 1:
        raise BadQuery("the strength must be above 0 and at most 1; 1 keeps nothing of the layout")
    if strength < 1 and not entry.keeps_layout:
        able = ", ".join(other.id for other in registry.entries() if other.keeps_layout)
        raise DecoderNotAvailable(
            f"the decoder {entry.id} cannot keep a picture's layout: use --strength 1, or one of {able}"
        )
    if needs_prior and entry.takes_prompt:
        able = ", ".join(other.id for other in registry.entries() if not other.takes_prompt)
        raise DecoderNotAvailable(
            f"the decoder {entry.id} takes words as a prompt, which cannot be blended: use one of {able}"
        )


def _destination(layout: Layout | None, output: str | Path | None) -> tuple[Path, Path | None]:
    """Return the folder of the pictures, and the file that the user named."""
    if output:
        check_extension(Path(output))
        return Path(output).parent, Path(output)
    if layout is None:
        raise BadQuery("without a library, say where to save the picture with -o FILE")
    return layout.generated, None
