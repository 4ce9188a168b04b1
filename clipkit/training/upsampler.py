"""Train the upsampler on pictures as the decoder makes them: through the codec, 64 px, with the true one at 256 px."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from clipkit.generation.codec import PatchCodec
from clipkit.generation.upsampler import Upsampler
from clipkit.training.cache import as_input, draw
from clipkit.training.loop import Schedule, fit


@dataclass(frozen=True, kw_only=True)
class UpsamplerRecipe(Schedule):
    """The hyperparameters. Cuts of `cut` px of the small picture are learned from; the loss is the absolute error."""

    steps: int = 4000
    batch: int = 16
    learning_rate: float = 1e-3
    decay: float = 0.6
    ema: float = 0.99
    width: int = 48
    blocks: int = 4
    factor: int = 4
    cut: int = 24


def train(
    recipe: UpsamplerRecipe,
    small: np.ndarray,
    large: np.ndarray,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> Upsampler:
    """Trains on pictures, uint8 (n, s, s, 3) and (n, factor * s, factor * s, 3); resumes from `work`."""
    torch.manual_seed(recipe.seed)
    model = Upsampler(recipe.width, recipe.blocks, recipe.factor)
    side, factor = recipe.cut, recipe.factor

    def loss_of(model: torch.nn.Module, rng: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(small), (recipe.batch,), generator=rng)
        y, x = torch.randint(small.shape[1] - side + 1, (2,), generator=rng).tolist()
        cut = as_input(draw(small, rows)[:, y : y + side, x : x + side]).to(device)
        y, x, wide = y * factor, x * factor, side * factor
        true = as_input(draw(large, rows)[:, y : y + wide, x : x + wide]).to(device)
        return F.l1_loss(model(cut), true)

    fit(model, recipe, loss_of, work / "upsampler.pt", device=device, report=report, stop_at=stop_at)
    return model


@torch.inference_mode()
def through_codec(codec: PatchCodec, squares: np.ndarray) -> np.ndarray:
    """Pictures, uint8 (n, s, s, 3), as the codec gives them back."""
    parts = [as_pixels(codec(as_input(squares[i : i + 250]))) for i in range(0, len(squares), 250)]
    return np.concatenate(parts)


@torch.inference_mode()
def enlarge(model: Upsampler, squares: np.ndarray) -> np.ndarray:
    """uint8 (n, s, s, 3) to uint8 (n, factor * s, factor * s, 3)."""
    return np.concatenate([as_pixels(model(as_input(squares[i : i + 50]))) for i in range(0, len(squares), 50)])


def lanczos(squares: np.ndarray, factor: int = 4) -> np.ndarray:
    """What the upsampler is compared with: Lanczos resampling."""
    size = squares.shape[1] * factor
    return np.stack([np.asarray(Image.fromarray(s).resize((size, size), Image.Resampling.LANCZOS)) for s in squares])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Mean peak signal-to-noise ratio in dB of pictures, uint8 (n, h, w, 3)."""
    error = ((a.astype(np.float32) - b.astype(np.float32)) / 255) ** 2
    return float((-10 * np.log10(error.mean((1, 2, 3)) + 1e-12)).mean())


def as_pixels(x: torch.Tensor) -> np.ndarray:
    """[-1, 1], (n, 3, h, w), to uint8 (n, h, w, 3)."""
    return x.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
