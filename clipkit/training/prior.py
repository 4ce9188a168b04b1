"""Train the priors, from text embeddings to image embeddings: a linear map, an MLP, and a diffusion prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import PriorTransformer

from clipkit.generation.prior import DiffusionPrior, MlpPrior, Prior
from clipkit.generation.ridge import ridge_regression
from clipkit.training.conditioning_data import Standardiser
from clipkit.training.loop import Schedule, fit
from clipkit.training.precomputed import take_rows


@dataclass(frozen=True, kw_only=True)
class MlpPriorRecipe(Schedule):
    """The hyperparameters of the MLP, which starts from the ridge regression and learns its residual."""

    steps: int = 6000
    batch: int = 512
    learning_rate: float = 1e-3
    decay: float = 0.8
    weight_decay: float = 0.01
    width: int = 768
    layers: int = 2


@dataclass(frozen=True, kw_only=True)
class DiffusionPriorRecipe(Schedule):
    """The hyperparameters of diffusers' `PriorTransformer`.

    Its tokens are the text, the timestep, the noisy embedding and a learned output token. A share of `unconditional`
    texts are zeroed, for classifier-free guidance.
    """

    steps: int = 3000
    batch: int = 256
    learning_rate: float = 6e-4
    decay: float = 0.5
    weight_decay: float = 0.01
    heads: int = 4
    head_dim: int = 64
    layers: int = 4
    unconditional: float = 0.1


def fit_linear(text: np.ndarray, image: np.ndarray, strength: float = 1e-3) -> MlpPrior:
    """Fit the linear prior: ridge regression in closed form from unit text embeddings to image embeddings, (n, d) each.

    `strength` is the penalty relative to the mean variance of the inputs.
    """
    dim = text.shape[1]
    x = F.normalize(torch.from_numpy(np.asarray(text, np.float32)), dim=-1).double() * dim**0.5
    weight, bias = ridge_regression(x.numpy(), image, strength)
    prior = MlpPrior(dim, layers=0)
    with torch.no_grad():
        prior.linear.weight.copy_(torch.from_numpy(weight.T))
        prior.linear.bias.copy_(torch.from_numpy(bias))
    return prior.eval()


def train_mlp(
    recipe: MlpPriorRecipe,
    text: np.ndarray,
    image: np.ndarray,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> MlpPrior:
    """Train the MLP on top of the ridge regression; the loss is the squared error of standardised image embeddings."""
    torch.manual_seed(recipe.seed)
    prior = MlpPrior(text.shape[1], recipe.width, recipe.layers)
    prior.linear.load_state_dict(fit_linear(text, image).linear.state_dict())
    std = Standardiser.fit(image).std.to(device)

    def loss_of(model: torch.nn.Module, rng: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(text), (recipe.batch,), generator=rng)
        x, y = (torch.from_numpy(take_rows(e, rows)).float().to(device) for e in (text, image))
        return ((model(x) - y) / std).square().mean()

    fit(prior, recipe, loss_of, work / "prior-mlp.pt", device=device, report=report, stop_at=stop_at)
    return prior


def train_diffusion(
    recipe: DiffusionPriorRecipe,
    text: np.ndarray,
    image: np.ndarray,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    stop_at: int | None = None,
) -> PriorTransformer:
    """Train the diffusion prior, which predicts the clean embedding from a noisy one and the text."""
    torch.manual_seed(recipe.seed)
    dim = text.shape[1]
    prior = PriorTransformer(
        num_attention_heads=recipe.heads,
        attention_head_dim=recipe.head_dim,
        num_layers=recipe.layers,
        embedding_dim=dim,
        num_embeddings=0,
        encoder_hid_proj_type=None,
        additional_embeddings=4,
    )
    # The transformer works on standardised embeddings; its `post_process_latents` reverts that.
    standardise = Standardiser.fit(image)
    with torch.no_grad():
        prior.clip_mean.copy_(standardise.mean)
        prior.clip_std.copy_(standardise.std)
    prior.clip_mean.requires_grad_(False)
    prior.clip_std.requires_grad_(False)
    noise = DiffusionPrior.noise()

    def loss_of(model: torch.nn.Module, rng: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(text), (recipe.batch,), generator=rng)
        x, y = (torch.from_numpy(take_rows(e, rows)).float() for e in (text, image))
        x = F.normalize(x, dim=-1) * dim**0.5
        x = x * (torch.rand(len(x), 1, generator=rng) >= recipe.unconditional)
        clean = standardise(y)
        t = torch.randint(len(noise), (len(x),), generator=rng)
        noisy = noise.add_noise(clean, torch.randn(clean.shape, generator=rng), t)
        out = model(noisy.to(device), t.to(device), proj_embedding=x.to(device)).predicted_image_embedding
        return (out.float() - clean.to(device)).square().mean()

    fit(prior, recipe, loss_of, work / "prior-transformer.pt", device=device, report=report, stop_at=stop_at)
    return prior


def mean_cosine(prior: Prior, text: np.ndarray, image: np.ndarray) -> float:
    """Return the mean cosine similarity of the predicted and the true image embeddings."""
    guess = prior.predict(torch.from_numpy(np.asarray(text, np.float32)), torch.Generator().manual_seed(0))
    return float(F.cosine_similarity(guess, torch.from_numpy(np.asarray(image, np.float32))).mean())
