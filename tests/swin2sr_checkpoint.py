"""Small Swin2SR networks with random weights, of the real class and in the hub's layout."""

from __future__ import annotations

from pathlib import Path

HEADS = {
    "pixelshuffle-x2": ("pixelshuffle", 2),
    "pixelshuffle-x4": ("pixelshuffle", 4),
    "lightweight-x2": ("pixelshuffledirect", 2),
    "realworld-x4": ("nearest+conv", 4),
    "compressed-x4": ("pixelshuffle_aux", 4),
}
"""Kind of a published network -> its head, and its factor."""


def write_network(folder: Path, kind: str = "pixelshuffle-x2", **more) -> Path:
    """Write a network as `save_pretrained` does, and the image processor's file beside it; return the folder.

    Its output is the input, enlarged by its own layers, and some noise, so that seams can be seen.
    """
    import torch
    from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution, Swin2SRImageProcessorPil

    torch.manual_seed(0)
    head, factor = HEADS[kind]
    config = Swin2SRConfig(
        embed_dim=24, depths=[2, 2], num_heads=[2, 2], window_size=8, upsampler=head, upscale=factor, **more
    )
    model = Swin2SRForImageSuperResolution(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "conv" in name and weights.ndim == 4:
                weights.copy_(torch.randn(weights.shape) * 0.8 / weights[0].numel() ** 0.5)
    model.save_pretrained(folder)
    Swin2SRImageProcessorPil().save_pretrained(folder)
    return folder


def put_into_cache(cache: Path, entry, kind: str) -> Path:
    """Write a network where the hub's client puts the files of a commit; return the folder."""
    folder = cache / f"models--{entry.repository.replace('/', '--')}" / "snapshots" / entry.revision
    folder.mkdir(parents=True)
    return write_network(folder, kind)
