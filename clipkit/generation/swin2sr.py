"""Swin2SR, a transformer for super-resolution (Conde et al., AIM workshop at ECCV 2022), in transformers' classes."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Swin2SRForImageSuperResolution

from clipkit.errors import DecoderNotAvailable
from clipkit.generation.decoder import explain_load_failure, quiet_diffusers
from clipkit.generation.placement import weight_dtype
from clipkit.generation.upscalers import UpscalerEntry
from clipkit.models.devices import choose_device


class Swin2SR:
    """A Swin2SR network for RGB pictures, in half precision on CUDA.

    It attends within windows, shifted in every other layer, so a pixel depends on others that are far away, but hardly:
    the margin leaves out those next to a tile's edge, and the feather hides what difference is left.
    """

    tile, margin, feather = 256, 16, 16

    def __init__(self, entry: UpscalerEntry, device: str = "auto") -> None:
        self.device = choose_device(device)
        with explain_load_failure(f"the upscaler {entry.id}"), quiet_diffusers():
            self.model, report = Swin2SRForImageSuperResolution.from_pretrained(
                entry.files(),
                dtype=weight_dtype(self.device),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            if missing := sorted(report["missing_keys"]):
                raise DecoderNotAvailable(f"the upscaler {entry.id} lacks weights, {missing[0]} for one")
            self.model.to(self.device).eval()
        config = self.model.config
        self.factor, self.multiple = config.upscale, config.window_size
        if config.num_channels != 3 or self.factor < 2:
            raise DecoderNotAvailable(f"the upscaler {entry.id} does not enlarge pictures in colour")

    @torch.inference_mode()
    def enlarge(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels, uint8 (h, w, 3), enlarged to uint8 (factor * h, factor * w, 3)."""
        height, width = pixels.shape[:2]
        padding = [(0, -side % self.multiple) for side in (height, width)]
        padded = np.pad(pixels, [*padding, (0, 0)], mode="symmetric")
        x = torch.from_numpy(np.ascontiguousarray(padded)).to(self.device).permute(2, 0, 1)[None].float() / 255
        y = self.model(x.to(self.model.dtype)).reconstruction
        if not torch.isfinite(y).all() and self.model.dtype != torch.float32:
            # Beyond the range of half precision: this tile and all others in single precision.
            self.model.float()
            y = self.model(x).reconstruction
        y = y[0, :, : height * self.factor, : width * self.factor].float().clamp(0, 1)
        return (y * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
