"""The bundled decoder's upsampler as an upscaler of whole pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from clipkit.generation.decoder import explain_load_failure, quiet_diffusers
from clipkit.generation.loading import load_conditioner
from clipkit.generation.registry import resolve_decoder
from clipkit.generation.upscalers import UpscalerEntry
from clipkit.generation.upsampler import Upsampler
from clipkit.models.devices import choose_device


class DrawnUpscaler:
    """The upsampler, told what the whole picture shows by its embedding. It sees no further than 22 pixels."""

    multiple, tile, margin, feather = 2, 256, 24, 8

    def __init__(self, entry: UpscalerEntry, device: str = "auto") -> None:
        self.device = choose_device(device)
        with explain_load_failure(f"the upscaler {entry.id}"), quiet_diffusers():
            model = Upsampler.from_pretrained(entry.files(), dtype=torch.float32, low_cpu_mem_usage=False)
            self.model = model.to(self.device).eval()
        self.factor = self.model.config.factor
        self.conditioner = load_conditioner(resolve_decoder("tiny"), device)

    def look(self, image: Image.Image) -> torch.Tensor:
        """Return the picture's embedding by the model `tiny`, float32 (1, d), not normalised."""
        return torch.from_numpy(self.conditioner.embed_images([image])).float().to(self.device)

    @torch.inference_mode()
    def enlarge(self, pixels: np.ndarray, seen: torch.Tensor) -> np.ndarray:
        """Return pixels, uint8 (h, w, 3), enlarged to uint8 (factor * h, factor * w, 3)."""
        height, width = pixels.shape[:2]
        even = np.pad(pixels, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
        x = torch.from_numpy(np.ascontiguousarray(even)).to(self.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        y = self.model(x, seen)[0, :, : height * self.factor, : width * self.factor].clamp(-1, 1)
        return ((y + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
