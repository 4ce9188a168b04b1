"""Download a published decoder ahead of its first use: `pull_decoder`."""

from __future__ import annotations

from collections.abc import Callable

from clipkit.generation import decoder_files
from clipkit.generation.registry import resolve_decoder
from clipkit.models.hub.cache import is_offline
from clipkit.progress import ProgressCallback


def pull_decoder(
    decoder: str, *, say: Callable[[str], None] | None = None, progress: ProgressCallback | None = None
) -> bool:
    """Download a decoder with its image tower; return whether anything was missing.

    `decoder` is an id or a folder. `say` gets one line on the size of the download before it starts.
    Raises DecoderNotAvailable for an unknown decoder, or one that cannot be downloaded.
    """
    entry = resolve_decoder(decoder)
    if not decoder_files.missing_parts(entry) and (entry.folder or decoder_files.image_tower_folder(entry)):
        return False
    if say and not is_offline():
        say(f"downloading {entry.id}, about {entry.download_size(with_tower=True)}")
    decoder_files.download(entry, progress=progress)
    return True
