"""The bundled decoder's upsampler as an upscaler of whole pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from clipkit.generation.decoder import explain_load_failure, quiet_diffusers
from clipkit.generation.upsampler import Upsampler
from clipkit.generation.upscalers import UpscalerEntry
from clipkit.models.devices import choose_device


class DrawnUpscaler:
    """The upsampler without an embedding, and one step of back-projection; it sees no further than 26 pixels.

    The network was trained to repair a decoder's output, and changes more than that in a clean picture. What its result
    lacks of the picture, when it is reduced again, is therefore added to it (Irani and Peleg, "Improving resolution by
    image registration", CVGIP 1991).
    """

    multiple, tile, margin, feather = 2, 256, 28, 8

    def __init__(self, entry: UpscalerEntry, device: str = "auto") -> None:
        self.device = choose_device(device)
        with explain_load_failure(f"the upscaler {entry.id}"), quiet_diffusers():
            model = Upsampler.from_pretrained(entry.files(), dtype=torch.float32, low_cpu_mem_usage=False)
            self.model = model.to(self.device).eval()
        self.factor = self.model.config.factor
        self.unknown = torch.zeros(1, self.model.config.embedding_dim, device=self.device)

    @torch.inference_mode()
    def enlarge(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels, uint8 (h, w, 3), enlarged to uint8 (factor * h, factor * w, 3)."""
        height, width = pixels.shape[:2]
        even = np.pad(pixels, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
        x = torch.from_numpy(np.ascontiguousarray(even)).to(self.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        y = self.model(x, self.unknown)
        lacking = x - F.avg_pool2d(y, self.factor)
        y = y + F.interpolate(lacking, scale_factor=self.factor, mode="bicubic", align_corners=False)
        y = y[0, :, : height * self.factor, : width * self.factor].clamp(-1, 1)
        return ((y + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
