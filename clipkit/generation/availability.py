"""Which decoder to use for a library, and whether it can generate at once on this machine."""

from __future__ import annotations

from clipkit.generation.decoder_files import on_disk
from clipkit.generation.registry import RECOMMENDED, DecoderEntry, entries, resolve_decoder


def decoder_for_spaces(*spaces: str) -> DecoderEntry:
    """Return the decoder for a library with embeddings of these models; earlier ones take precedence.

    Prefers a decoder that takes the library's embeddings, on disk if possible. If there is none, the query is
    re-encoded: returns a decoder for photographs that is on disk, or else the recommended one.
    """
    whole = [entry for entry in entries() if not entry.inpaints_only]
    matching = [entry for space in spaces for entry in whole if space in entry.spaces]
    if matching:
        return next((entry for entry in matching if on_disk(entry)), matching[0])
    recommended = resolve_decoder(RECOMMENDED)
    return next((e for e in (recommended, *whole) if not e.folder and on_disk(e)), recommended)


def why_unavailable(entry: DecoderEntry) -> str:
    """Return why a decoder cannot generate at once, and what to do; empty if it can.

    Asked before generating without an explicit request, which must neither download anything nor take minutes.
    """
    if not on_disk(entry):
        if entry.folder:
            return f"the decoder {entry.id} is not installed"
        size = entry.download_size(with_tower=not entry.takes_prompt)
        return (
            f"the decoder {entry.id} is not on this machine; "
            f"`clipkit generate --decoder {entry.id} TEXT` downloads {size} and generates the picture"
        )
    if entry.memory_gb:
        import torch

        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            return (
                f"the decoder {entry.id} takes minutes without a GPU; "
                f"`clipkit generate --decoder {entry.id} TEXT` generates the picture all the same"
            )
    return ""
