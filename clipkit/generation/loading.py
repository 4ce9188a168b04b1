"""Which module runs which family of decoders."""

from __future__ import annotations

from functools import lru_cache

from clipkit.errors import DecoderNotAvailable
from clipkit.generation import decoder_files
from clipkit.generation.conditioning import PictureConditions, TowerConditions, TrainedConditions, load_trained_prior
from clipkit.generation.decoder import Decoder, one_line_if_it_fails
from clipkit.generation.registry import DecoderEntry
from clipkit.generation.towers import ImageTower
from clipkit.models.devices import choose_device
from clipkit.models.loading import load_encoder


@lru_cache(maxsize=1)
def load_decoder(entry: DecoderEntry, device: str = "auto") -> Decoder:
    """The decoder, kept for the next picture. Raises DecoderNotAvailable."""
    if entry.family == "ip-adapter":
        from clipkit.generation.ip_adapter import IpAdapterDecoder

        return IpAdapterDecoder(entry, device)
    if entry.family == "stable-unclip":
        from clipkit.generation.stable_unclip import StableUnclipDecoder

        return StableUnclipDecoder(entry, device)
    from clipkit.generation.kandinsky import KandinskyDecoder

    return KandinskyDecoder(entry, device)


@lru_cache(maxsize=2)
def load_conditions(entry: DecoderEntry, device: str = "auto") -> PictureConditions:
    """What goes with a decoder. Raises DecoderNotAvailable if the prior, or the space it stands on, is not here."""
    if entry.reads_words:
        # Where the tower is not here the routes lead around it; should they not, it is the tower that says so.
        return TowerConditions(
            ImageTower(
                lambda: decoder_files.tower_folder(entry) or decoder_files.main_folder(entry) / "image_encoder",
                decoder_files.main_folder(entry) / "feature_extractor"
                if entry.family == "stable-unclip"
                else decoder_files.NO_FOLDER,
                choose_device(device),
                entry.id,
            )
        )
    with one_line_if_it_fails(f"the prior of the decoder {entry.id}"):
        if has_trained_prior(entry):
            if not entry.space:
                raise DecoderNotAvailable(
                    f'{entry.folder} does not say which space its prior stands on: write {{"space": ...}} to its '
                    "clipkit.json"
                )
            return TrainedConditions(
                load_encoder(entry.space, device, export=False),
                load_trained_prior(decoder_files.prior_folder(entry)),
                entry.id,
            )
        from clipkit.generation.kandinsky import KandinskyConditions, KandinskyDecoder

        def crowded() -> bool:
            decoder = load_decoder(entry, device)  # the one that is kept
            return isinstance(decoder, KandinskyDecoder) and decoder.takes_turns

        return KandinskyConditions(entry, device, crowded)


def has_trained_prior(entry: DecoderEntry) -> bool:
    """Whether its prior is one that clipkit trained, on the towers of an open_clip space."""
    return (
        entry.folder is not None
        and not entry.reads_words
        and not (entry.folder / "prior" / "model_index.json").is_file()
    )
