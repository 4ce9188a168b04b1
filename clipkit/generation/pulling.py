"""Download a published decoder or upscaler ahead of its first use: `pull_decoder`."""

from __future__ import annotations

from collections.abc import Callable

from clipkit.generation import decoder_files, upscalers
from clipkit.generation.registry import resolve_decoder
from clipkit.models.hub.cache import is_offline
from clipkit.progress import ProgressCallback


def pull_decoder(
    decoder: str, *, say: Callable[[str], None] | None = None, progress: ProgressCallback | None = None
) -> bool:
    """Download a decoder with its image tower, or an upscaler; return whether anything was missing.

    `decoder` is an id or a folder. `say` gets one line on the size of the download before it starts.
    Raises DecoderNotAvailable for an unknown decoder, or one that cannot be downloaded.
    """
    for upscaler in upscalers.published():
        if upscaler.id == decoder:
            return _pull_upscaler(upscaler, say, progress)
    entry = resolve_decoder(decoder)
    if not decoder_files.missing_parts(entry) and (entry.folder or decoder_files.image_tower_folder(entry)):
        return False
    if say and not is_offline():
        say(f"downloading {entry.id}, about {entry.download_size(with_tower=True)}")
    decoder_files.download(entry, progress=progress)
    return True


def _pull_upscaler(
    entry: upscalers.UpscalerEntry, say: Callable[[str], None] | None, progress: ProgressCallback | None
) -> bool:
    if upscalers.on_disk(entry):
        return False
    if say and not is_offline():
        say(f"downloading {entry.id}, {entry.download_mb:g} MB")
    upscalers.download(entry, progress)
    return True
