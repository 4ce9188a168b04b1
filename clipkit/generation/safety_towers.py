"""The models that can tell whether a text asks for a concept, and whether a picture shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from clipkit.generation import decoder_files
from clipkit.generation.loading import has_trained_prior, load_conditioner, local_model
from clipkit.generation.registry import DecoderEntry
from clipkit.models.encoder import Encoder
from clipkit.models.hub.locating import is_here
from clipkit.models.loading import load_encoder
from clipkit.models.reference import ModelRef
from clipkit.progress import ProgressCallback
from clipkit.searching.library_matcher import bank_vectors

BATCH = 64
"""Texts encoded at once."""


@dataclass(frozen=True)
class Towers:
    """A text tower and, if it is on this machine, the image tower of the same space.

    name: whose they are, for messages.
    texts: texts to embeddings, (n, d) float32.
    pictures: images to embeddings, (n, d) float32; None without an image tower.
    unknown_words: the words of a text that the model was not taught.
    bank: the embeddings of the concept bank, (c, d) float32 of unit length.
    takes_embeddings: whether the decoder's image embeddings are of the same space.
    """

    name: str
    texts: Callable[[list[str]], np.ndarray]
    pictures: Callable[[list[Image]], np.ndarray] | None
    unknown_words: Callable[[str], list[str]]
    bank: Callable[[ProgressCallback | None], np.ndarray]
    takes_embeddings: bool


def find_towers(entry: DecoderEntry, spaces: Sequence[str], device: str) -> Iterator[Towers]:
    """Yield the towers on this machine, best first: the decoder's own, those of its model, those of a library's models.

    spaces: the library's models. The bundled model is left out unless it is the decoder's: it knows no photographs.
    """
    if has_trained_prior(entry):
        if entry.space and is_here(ModelRef.of(entry.space)):
            yield _of_encoder(load_encoder(entry.space, device, export=False), takes_embeddings=True)
    elif not entry.takes_prompt and not decoder_files.missing_parts(entry):
        yield _of_kandinsky(entry, device)
    if not has_trained_prior(entry) and (space := local_model(entry)):
        yield _of_encoder(load_encoder(space, device, export=False), takes_embeddings=True)
    for space in spaces:
        if space != "tiny" and space not in entry.spaces and is_here(ModelRef.of(space)):
            yield _of_encoder(load_encoder(space, device, search=True, export=False), takes_embeddings=False)


def _of_encoder(encoder: Encoder, *, takes_embeddings: bool) -> Towers:
    def pictures(images: list[Image]) -> np.ndarray:
        return encoder.encode_images(np.stack([encoder.preprocessing.pixels(image) for image in images]))

    return Towers(
        name=encoder.space,
        texts=encoder.encode_texts,
        pictures=pictures,
        unknown_words=encoder.unknown_words,
        bank=lambda progress: bank_vectors(encoder, progress),
        takes_embeddings=takes_embeddings,
    )


class _KandinskyTexts:
    """The text tower of Kandinsky's prior, a whole CLIP model's, as far as `bank_vectors` needs one."""

    concepts: tuple[str, ...] = ()

    def __init__(self, pipeline: Any, space: str) -> None:
        self.pipeline, self.space = pipeline, space
        self.dimension = pipeline.text_encoder.config.projection_dim

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Encode n texts to float32 (n, dimension), as the prior's pipeline does."""
        tokenizer, tower = self.pipeline.tokenizer, self.pipeline.text_encoder
        parts = []
        for start in range(0, len(texts), BATCH):
            tokens = tokenizer(
                texts[start : start + BATCH],
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            parts.append(tower(tokens.to(self.pipeline._execution_device)).text_embeds.float().cpu())
        return torch.cat(parts).numpy()


def _of_kandinsky(entry: DecoderEntry, device: str) -> Towers:
    conditioner: Any = load_conditioner(entry, device)
    texts = _KandinskyTexts(conditioner.pipeline, entry.space or str(entry.folder))
    sees = decoder_files.image_tower_folder(entry) is not None
    return Towers(
        name=f"the decoder {entry.id}",
        texts=texts.encode_texts,
        pictures=(lambda images: conditioner.embed_images(images)) if sees else None,
        unknown_words=lambda text: [],
        bank=lambda progress: bank_vectors(texts, progress),  # type: ignore[arg-type]
        takes_embeddings=True,
    )
