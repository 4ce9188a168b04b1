"""The image tower that comes with a published decoder, as transformers saves it; loaded when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from clipkit.generation.decoder import enough_memory, one_line_if_it_fails, quiet_diffusers
from clipkit.generation.decoder_files import variant_of_part
from clipkit.generation.placement import must_offload, precision
from clipkit.models.memory import AdaptiveBatches


class ImageTower:
    """A `CLIPVisionModelWithProjection`, and how it wants its pictures.

    `find` tells its folder, and is asked again after a failure, since it may have been fetched by then.
    `processor`: the folder of its preprocessing; without one, CLIP's usual at the tower's own size.
    """

    def __init__(self, find: Callable[[], Path], processor: Path, device: str, name: str) -> None:
        self.find, self.processor, self.device, self.name = find, processor, device, name
        self._fitting = AdaptiveBatches()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from clipkit.generation.placement import free_gpu_memory

        folder = self.find()
        weights = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e9
        device = "cpu" if must_offload(weights, free_gpu_memory(self.device)) else self.device
        with one_line_if_it_fails(f"the image tower of the decoder {self.name}"), quiet_diffusers():
            from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

            tower = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=precision(device), use_safetensors=True, variant=variant_of_part(folder)
            )
            if (self.processor / "preprocessor_config.json").is_file():
                processor = CLIPImageProcessor.from_pretrained(self.processor)
            else:
                side = tower.config.image_size
                processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        return tower.to(device).eval(), processor

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Image]) -> np.ndarray:
        """Image embeddings, float32 (n, d), not normalised."""
        with enough_memory(self.name, self.device):
            tower, processor = self._loaded

            def encode(pixels: np.ndarray) -> np.ndarray:
                batch = torch.from_numpy(pixels).to(tower.device, tower.dtype)
                return tower(batch).image_embeds.float().cpu().numpy()

            return self._fitting(encode, processor(list(pictures), return_tensors="np").pixel_values)

    @torch.inference_mode()
    def encode_zeros(self) -> np.ndarray:
        """The embedding float32 (d,) of an input of zeros, after normalisation: of a picture in the mean colour."""
        tower, _ = self._loaded
        side = tower.config.image_size
        zeros = torch.zeros(1, tower.config.num_channels, side, side, device=tower.device, dtype=tower.dtype)
        return tower(zeros).image_embeds[0].float().cpu().numpy()
