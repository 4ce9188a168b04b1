"""Load a decoder and its conditioner: maps a family to the module in `clipkit.generation` that implements it."""

from __future__ import annotations

from functools import lru_cache

from clipkit.errors import DecoderNotAvailable
from clipkit.generation import decoder_files
from clipkit.generation.conditioning import (
    ImageConditioner,
    TowerConditioner,
    TrainedPriorConditioner,
    load_trained_prior,
)
from clipkit.generation.decoder import Decoder, explain_load_failure
from clipkit.generation.image_tower import ImageTower
from clipkit.generation.registry import DecoderEntry
from clipkit.models.devices import choose_device
from clipkit.models.hub.locating import is_here
from clipkit.models.loading import load_encoder
from clipkit.models.reference import ModelRef


@lru_cache(maxsize=1)
def load_decoder(entry: DecoderEntry, device: str = "auto") -> Decoder:
    """Load a decoder, cached for the next picture. Raises DecoderNotAvailable."""
    if entry.family == "ip-adapter":
        from clipkit.generation.ip_adapter import IpAdapterDecoder

        return IpAdapterDecoder(entry, device)
    if entry.family == "stable-unclip":
        from clipkit.generation.stable_unclip import StableUnclipDecoder

        return StableUnclipDecoder(entry, device)
    from clipkit.generation.kandinsky import KandinskyDecoder

    return KandinskyDecoder(entry, device)


@lru_cache(maxsize=2)
def load_conditioner(entry: DecoderEntry, device: str = "auto") -> ImageConditioner:
    """Load the conditioner of a decoder. Raises DecoderNotAvailable if its prior or its model is not on disk."""
    if entry.takes_prompt:
        processor = None
        if entry.family == "stable-unclip":
            processor = decoder_files.pipeline_folder(entry) / "feature_extractor"
        # Routes avoid an image tower that is not on disk; if one is needed all the same, loading it raises.
        return TowerConditioner(
            ImageTower(
                entry.id,
                find=lambda: (
                    decoder_files.image_tower_folder(entry) or decoder_files.pipeline_folder(entry) / "image_encoder"
                ),
                processor=processor,
                device=choose_device(device),
            )
        )
    with explain_load_failure(f"the prior of the decoder {entry.id}"):
        if has_trained_prior(entry):
            if not entry.space:
                raise DecoderNotAvailable(
                    f"{entry.folder} does not name the model that its prior was trained on: add "
                    '{"space": ...} to its clipkit.json'
                )
            return TrainedPriorConditioner(
                load_encoder(entry.space, device, export=False),
                load_trained_prior(decoder_files.prior_folder(entry)),
                entry.id,
            )
        from clipkit.generation.kandinsky import KandinskyConditioner, KandinskyDecoder

        def decoder_is_offloaded() -> bool:
            decoder = load_decoder(entry, device)  # cached
            return isinstance(decoder, KandinskyDecoder) and decoder.is_offloaded

        return KandinskyConditioner(entry, device, decoder_is_offloaded)


def has_trained_prior(entry: DecoderEntry) -> bool:
    """Return whether the decoder's prior was trained by clipkit, on top of an open_clip model."""
    return (
        entry.folder is not None
        and not entry.takes_prompt
        and not (entry.folder / "prior" / "model_index.json").is_file()
    )


def local_model(entry: DecoderEntry) -> str:
    """Return the id of a model on disk whose embeddings the decoder takes, or an empty string."""
    return next((space for space in entry.spaces if is_here(ModelRef.of(space))), "")
