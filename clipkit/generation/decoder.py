"""The decoder: image embeddings to pictures, by diffusers' Kandinsky 2.2 pipeline whatever the weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import KandinskyV22Pipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image

from clipkit.errors import DecoderNotAvailable
from clipkit.generation.registry import DecoderEntry
from clipkit.spaces.encoder import choose_device


@dataclass(frozen=True)
class Settings:
    """How a picture is made. `size`: its side in pixels. `guidance`: the scale of classifier-free guidance."""

    seed: int
    steps: int
    guidance: float
    size: int


class Decoder(Protocol):
    """A family of decoders: what it makes of an embedding, and a picture from that."""

    entry: DecoderEntry

    def prepare(self, embedding: np.ndarray, away: np.ndarray) -> Any:
        """The conditioning for an image embedding and one to keep away from, both float32 (d,), not normalised."""
        ...

    def generate(self, conditioning: Any, settings: Settings, on_step: Callable[[int], None]) -> Image.Image:
        """One RGB picture, the same for the same settings on the same machine. `on_step` gets 1, 2, ... `steps`."""
        ...


@dataclass(frozen=True)
class ImageEmbeds:
    """What Kandinsky 2.2 is conditioned on: two tensors (1, d)."""

    wanted: torch.Tensor
    unwanted: torch.Tensor


class KandinskyDecoder:
    """Kandinsky 2.2's decoder (Razzhigaev et al., 2023), or any model that loads as a `KandinskyV22Pipeline`.

    One that makes a single, small size has a second stage, as unCLIP: its own upsampler if there is one in `upsampler`,
    and Lanczos resampling.
    """

    def __init__(self, entry: DecoderEntry, device: str = "auto") -> None:
        self.entry, self.device = entry, choose_device(device)
        dtype = torch.float16 if self.device == "cuda" else torch.float32
        source = str(entry.folder or entry.repository)
        try:
            with quiet_diffusers():
                pipeline = KandinskyV22Pipeline.from_pretrained(
                    source, dtype=dtype, low_cpu_mem_usage=False, use_safetensors=True
                )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise DecoderNotAvailable(f"the decoder {entry.id} cannot be loaded ({reason})") from error
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(self.device)
        self.upsampler = self._upsampler(entry.folder)

    def _upsampler(self, folder: Path | None):
        if folder is None or not (folder / "upsampler").is_dir():
            return None
        from clipkit.generation.upsampler import Upsampler

        with quiet_diffusers():
            model = Upsampler.from_pretrained(folder / "upsampler", dtype=torch.float32, low_cpu_mem_usage=False)
        return model.to(self.device).eval()

    def prepare(self, embedding: np.ndarray, away: np.ndarray) -> ImageEmbeds:
        wanted, unwanted = (torch.from_numpy(np.asarray(e, np.float32))[None] for e in (embedding, away))
        return ImageEmbeds(wanted.to(self.device), unwanted.to(self.device))

    def generate(self, conditioning: ImageEmbeds, settings: Settings, on_step: Callable[[int], None]) -> Image.Image:
        def stepped(pipeline, step: int, timestep, values: dict) -> dict:
            on_step(step + 1)
            return values

        first = self._first_size(settings.size)
        picture = self.pipeline(
            image_embeds=conditioning.wanted,
            negative_image_embeds=conditioning.unwanted,
            height=first,
            width=first,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="pt",
            callback_on_step_end=stepped,
        ).images
        if self.upsampler is not None:
            with torch.inference_mode():
                picture = self.upsampler(picture.float())
        pixels = picture[0].float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        image, size = Image.fromarray(pixels), settings.size
        return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.LANCZOS)

    def _first_size(self, size: int) -> int:
        """The side that the UNet works at: the decoder's one, or what is asked for, rounded up to what the codec can
        hold."""
        step = self.pipeline.movq_scale_factor**2
        return self.entry.native or -(-size // step) * step


@contextmanager
def quiet_diffusers():
    """diffusers remarks on every component of a class that is not its own; that is of no use to a user."""
    before = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(before)
        diffusers_logging.enable_progress_bar()
