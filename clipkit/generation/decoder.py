"""What every family of decoders offers: an aim in, a picture out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from diffusers.utils import logging as diffusers_logging
from PIL import Image

from clipkit.errors import ClipkitError, DecoderNotAvailable, first_line
from clipkit.generation.registry import DecoderEntry
from clipkit.models.devices import choose_device
from clipkit.models.memory import is_out_of_memory, memory_advice


@dataclass(frozen=True)
class Settings:
    """How a picture is made. `size`: its side in pixels. `guidance`: the scale of classifier-free guidance."""

    seed: int
    steps: int
    guidance: float
    size: int


@dataclass(frozen=True)
class Aim:
    """What a picture is to show, or to keep away from.

    `embedding`: an image embedding of the decoder's space, float32 (d,), not normalised. For decoders that read words
    it stands for the pictures alone and may be None, `words` are the words, and `share` in [0, 1] is what the pictures
    weigh against them. For all others the words are in the embedding.
    """

    embedding: np.ndarray | None
    words: str = ""
    share: float = 1.0


class Decoder(Protocol):
    """A family of decoders: what it makes of an aim, and a picture from that."""

    entry: DecoderEntry

    def prepare(self, wanted: Aim, away: Aim) -> Any:
        """The conditioning for what is wanted and what takes the place of no condition in guidance."""
        ...

    def generate(self, conditioning: Any, settings: Settings, on_step: Callable[[int], None]) -> Image.Image:
        """One RGB picture, the same for the same settings on the same machine. `on_step` gets 1, 2, ... `steps`."""
        ...


def embedding_of(aim: Aim, dimension: int, decoder: str) -> np.ndarray:
    """An aim's image embedding, float32 (dimension,), zeros where it has none.

    Raises DecoderNotAvailable if it is of another length: of another space than the decoder takes.
    """
    embedding = np.zeros(dimension) if aim.embedding is None else np.asarray(aim.embedding)
    if embedding.shape != (dimension,):
        raise DecoderNotAvailable(
            f"the decoder {decoder} takes embeddings of {dimension} values, not {embedding.shape[-1]}"
        )
    return embedding.astype(np.float32)


def picture(values: np.ndarray, size: int) -> Image.Image:
    """An RGB picture of side `size` from float (h, w, 3) in [0, 1]."""
    image = Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS)


def counting(on_step: Callable[[int], None], steps: int, scheduler: Any) -> Callable[[], None]:
    """What a pipeline calls after each time step of its scheduler, telling `on_step` 1, 2, ... `steps`.

    Schedulers take the number of steps each in its own way: PNDM calls the model once more, Heun's method nearly twice
    as often.
    """
    calls = told = 0

    def called() -> None:
        nonlocal calls, told
        calls += 1
        done = min(steps, calls * steps // max(1, len(scheduler.timesteps)))
        if done > told:
            told = done
            on_step(done)

    return called


@contextmanager
def enough_memory(name: str, device: str) -> Iterator[None]:
    """Says in one line, as DecoderNotAvailable, that a decoder has no memory left on its device, and what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ClipkitError) or not is_out_of_memory(error):
            raise
        device = choose_device(device)
        where = "this machine" if device == "cpu" else "the GPU"
        raise DecoderNotAvailable(
            f"{where} has not enough memory left for the decoder {name}: {memory_advice(device)}, make smaller "
            "pictures (--size), or take another decoder (`clipkit decoders list` says what each wants)"
        ) from error


@contextmanager
def one_line_if_it_fails(what: str) -> Iterator[None]:
    """What cannot be loaded says so as DecoderNotAvailable, in one line: `what` and the reason.

    A lack of memory is left to `enough_memory`.
    """
    try:
        yield
    except ClipkitError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise DecoderNotAvailable(f"{what} cannot be loaded ({first_line(error)})") from error


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """diffusers remarks on every component of a class that is not its own, and warns of its own calls of what it will
    rename; it and transformers draw bars of their own. That is of no use to a user."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    before = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        diffusers_logging.set_verbosity(before)
        diffusers_logging.enable_progress_bar()
