"""Which decoder paints into a picture: the one that generates, or its inpainting checkpoint."""

from __future__ import annotations

from clipkit.errors import DecoderNotAvailable
from clipkit.generation import decoder_files, registry
from clipkit.generation.job import JobOptions, choose_decoder


def choose_painter(options: JobOptions) -> tuple[registry.DecoderEntry, JobOptions]:
    """Return the decoder for an edit, and the options with its name.

    A decoder that is named is taken as it is. Otherwise it is the one for the library's models, or the inpainting
    checkpoint that belongs to it if that is on this machine. Raises DecoderNotAvailable.
    """
    catalog, layout, named = options.get("catalog"), options.get("layout"), options.get("decoder")
    if named:
        return registry.resolve_decoder(named), options
    try:
        entry = choose_decoder(catalog, layout, None)
    except DecoderNotAvailable:
        painter = _painter_on_disk()
        if painter is None or catalog is None or not any(space in painter.spaces for space in catalog.spaces()):
            raise
        return painter, {**options, "decoder": painter.name}
    if entry.inpainter:
        painter = registry.resolve_decoder(entry.inpainter)
        if decoder_files.on_disk(painter):
            return painter, {**options, "decoder": painter.name}
    return entry, options


def _painter_on_disk() -> registry.DecoderEntry | None:
    painters = (entry for entry in registry.entries() if entry.inpaints_only)
    return next((entry for entry in painters if decoder_files.on_disk(entry)), None)
