"""The protocol that every family of decoders implements, and what the families share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from diffusers.utils import logging as diffusers_logging
from PIL import Image, ImageOps

from clipkit.errors import ClipkitError, DecoderNotAvailable, first_line
from clipkit.generation.registry import DecoderEntry
from clipkit.models.devices import choose_device
from clipkit.models.memory import is_out_of_memory, memory_advice


@dataclass(frozen=True)
class Settings:
    """Sampling settings of one picture. `guidance`: scale of classifier-free guidance. `size`: side in pixels."""

    seed: int
    steps: int
    guidance: float
    size: int


@dataclass(frozen=True)
class Conditioning:
    """What a decoder is conditioned on, in one direction of guidance.

    `embedding`: image embedding of the decoder's model, float32 (d,), not normalised. With a decoder that takes a
    prompt it represents the images only, and may be None; with others it represents the text as well.
    `prompt`: the text, for a decoder that takes a prompt.
    `image_share`: weight of the images against the prompt, in [0, 1].
    """

    embedding: np.ndarray | None
    prompt: str = ""
    image_share: float = 1.0


@dataclass(frozen=True)
class Start:
    """A picture whose layout a sample keeps: sampling starts from it, noised part of the way.

    SDEdit: Meng et al., ICLR 2022. `strength`: the share of the noise schedule that is sampled, in (0, 1); near 0 the
    picture hardly changes, near 1 little of it is left.
    """

    image: Image.Image
    strength: float

    def fitted(self, side: int) -> Image.Image:
        """Return the middle square of the picture, RGB, at `side` pixels a side."""
        return ImageOps.fit(self.image, (side, side), Image.Resampling.LANCZOS)

    def share(self, steps: int) -> float:
        """Return the share of the steps that are sampled: the strength, to the nearest step, but at least one."""
        return max(1, round(self.strength * steps)) / steps

    def pipeline_strength(self, steps: int) -> float:
        """Return the strength to pass to a pipeline, which rounds the number of steps down."""
        return min(1.0, self.share(steps) + 0.5 / steps)


class Decoder(Protocol):
    """A family of decoders: from conditioning to the family's inputs, and from these to a picture."""

    entry: DecoderEntry

    def prepare(self, positive: Conditioning, negative: Conditioning) -> Any:
        """Return the inputs of `generate`; `negative` takes the place of the unconditional input in guidance."""
        ...

    def generate(
        self, inputs: Any, settings: Settings, on_step: Callable[[int], None], start: Start | None = None
    ) -> Image.Image:
        """Generate one RGB picture, reproducible on the same machine. `on_step` is called with 1, 2, ... `steps`.

        With `start`, the picture keeps the layout of another. Raises DecoderNotAvailable if the family cannot do that.
        """
        ...


def checked_embedding(conditioning: Conditioning, dimension: int, decoder: str) -> np.ndarray:
    """Return the image embedding, float32 (dimension,), or zeros if there is none.

    Raises DecoderNotAvailable if its length differs, because it comes from another model than the decoder takes.
    """
    embedding = np.zeros(dimension) if conditioning.embedding is None else np.asarray(conditioning.embedding)
    if embedding.shape != (dimension,):
        raise DecoderNotAvailable(
            f"the decoder {decoder} takes embeddings of {dimension} values, not {embedding.shape[-1]}"
        )
    return embedding.astype(np.float32)


def to_image(pixels: np.ndarray, size: int) -> Image.Image:
    """Convert float pixels (h, w, 3) in [0, 1] to an RGB picture with sides of `size`."""
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS)


def step_counter(on_step: Callable[[int], None], steps: int, scheduler: Any, share: float = 1.0) -> Callable[[], None]:
    """Return a callback for a pipeline's time steps, which calls `on_step` with 1, 2, ... `steps`.

    `share`: of the scheduler's time steps that are sampled.
    Schedulers differ in the number of time steps: PNDM has one more than `steps`, Heun's method nearly twice as many.
    """
    calls = reported = 0

    def count() -> None:
        nonlocal calls, reported
        calls += 1
        done = min(steps, calls * steps // max(1, round(share * len(scheduler.timesteps))))
        if done > reported:
            reported = done
            on_step(done)

    return count


@contextmanager
def explain_out_of_memory(name: str, device: str) -> Iterator[None]:
    """Raise DecoderNotAvailable with one line of advice when the device runs out of memory."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ClipkitError) or not is_out_of_memory(error):
            raise
        device = choose_device(device)
        where = "this machine" if device == "cpu" else "the GPU"
        raise DecoderNotAvailable(
            f"{where} has not enough memory left for the decoder {name}: {memory_advice(device)}, generate smaller "
            "pictures (--size), or use another decoder (`clipkit decoders list` shows the memory they need)"
        ) from error


@contextmanager
def explain_load_failure(what: str) -> Iterator[None]:
    """Raise DecoderNotAvailable with the reason in one line when `what` cannot be loaded.

    Out-of-memory errors pass through, for `explain_out_of_memory`.
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
    """Silence the warnings and progress bars of diffusers and transformers.

    diffusers warns of every component of a class that is not its own, and of deprecated calls within itself.
    """
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
