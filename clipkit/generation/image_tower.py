"""The image tower of a published decoder, as transformers saves it, loaded on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from clipkit.generation.decoder import explain_load_failure, explain_out_of_memory, quiet_diffusers
from clipkit.generation.decoder_files import part_variant
from clipkit.generation.placement import is_short_of_memory, weight_dtype
from clipkit.models.memory import AdaptiveBatches


class ImageTower:
    """A `CLIPVisionModelWithProjection` with its preprocessing.

    `name`: the decoder's, for messages.
    `find` returns its folder; it is called again after a failure, since the tower may have been downloaded by then.
    `processor`: the folder of its preprocessing; if there is none, CLIP's usual one at the tower's input size is used.
    """

    def __init__(self, name: str, *, find: Callable[[], Path], processor: Path | None, device: str) -> None:
        self.name, self.find, self.processor, self.device = name, find, processor, device
        self._fitting = AdaptiveBatches()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        folder = self.find()
        weights_gb = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e9
        device = "cpu" if is_short_of_memory(weights_gb, self.device) else self.device
        with explain_load_failure(f"the image tower of the decoder {self.name}"), quiet_diffusers():
            from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

            tower = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=weight_dtype(device), use_safetensors=True, variant=part_variant(folder)
            )
            if self.processor and (self.processor / "preprocessor_config.json").is_file():
                processor = CLIPImageProcessor.from_pretrained(self.processor)
            else:
                side = tower.config.image_size
                processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        return tower.to(device).eval(), processor

    @torch.inference_mode()
    def encode(self, images: Sequence[Image]) -> np.ndarray:
        """Return image embeddings, float32 (n, d), not normalised."""
        with explain_out_of_memory(self.name, self.device):
            tower, processor = self._loaded

            def encode(pixels: np.ndarray) -> np.ndarray:
                batch = torch.from_numpy(pixels).to(tower.device, tower.dtype)
                return tower(batch).image_embeds.float().cpu().numpy()

            return self._fitting(encode, processor(list(images), return_tensors="np").pixel_values)

    @torch.inference_mode()
    def encode_zeros(self) -> np.ndarray:
        """Return the embedding, float32 (d,), of an all-zero input, which stands for an image of the mean colour."""
        tower, _ = self._loaded
        side = tower.config.image_size
        zeros = torch.zeros(1, tower.config.num_channels, side, side, device=tower.device, dtype=tower.dtype)
        return tower(zeros).image_embeds[0].float().cpu().numpy()
