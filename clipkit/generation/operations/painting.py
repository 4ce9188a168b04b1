"""Paint the masked part of a patch with a decoder of any family.

Inpainting checkpoints see what is around the mask and need nothing else. Decoders that only know whole pictures take
the steps of RePaint; see `repaint.py`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoPipelineForInpainting
from PIL import Image

from clipkit.errors import ClipkitError
from clipkit.generation.decoder import Decoder, Settings, quiet_diffusers, step_counter, to_image
from clipkit.generation.ip_adapter import IpAdapterDecoder, IpAdapterInputs
from clipkit.generation.kandinsky import KandinskyDecoder, KandinskyInputs, pipeline_arguments
from clipkit.generation.latents import initial_latents
from clipkit.generation.operations.repaint import KeepOutside, RepaintScheduler
from clipkit.generation.operations.windows import Patch
from clipkit.generation.sketch_unet import SketchUNet
from clipkit.generation.stable_unclip import StableUnclipDecoder, StableUnclipInputs


def paint_patch(
    decoder: Decoder,
    inputs: Any,
    settings: Settings,
    on_step: Callable[[int], None],
    *,
    patch: Patch,
    things: bool = True,
) -> Image.Image:
    """Return the patch with its masked part painted, RGB, `settings.size` pixels a side.

    `inputs`: of the decoder's `prepare`.
    `things`: whether the bundled decoder's sketch shows things, or only goes on with what is around the mask.
    The rest of the patch is only approximately as before. Reproducible on the
    same machine. Raises ClipkitError if a safety checker withholds the picture.
    """
    if isinstance(decoder, KandinskyDecoder):
        return _by_kandinsky(decoder, inputs, settings, on_step, patch, things)
    if isinstance(decoder, IpAdapterDecoder):
        return _by_ip_adapter(decoder, inputs, settings, on_step, patch)
    assert isinstance(decoder, StableUnclipDecoder)
    return _by_stable_unclip(decoder, inputs, settings, on_step, patch)


def _by_kandinsky(
    decoder: KandinskyDecoder,
    inputs: KandinskyInputs,
    settings: Settings,
    on_step: Callable[[int], None],
    patch: Patch,
    things: bool,
) -> Image.Image:
    side = decoder.pipeline_size(settings.size)
    generator = torch.Generator().manual_seed(settings.seed)
    arguments = pipeline_arguments(inputs, settings, side, generator)
    if decoder.entry.inpaints_only:
        pipeline = decoder.pipeline
        end = _counting(step_counter(on_step, settings.steps, pipeline.scheduler))
        picture = {"image": patch.image(side), "mask_image": patch.mask(side)}
        return decoder.finish(pipeline(**picture, callback_on_step_end=end, **arguments).images, inputs, settings.size)
    pipeline = _with_repeated_steps(decoder.pipeline)
    pixels, inside = _tensors(patch, side, pipeline)
    with torch.inference_mode():
        original = pipeline.movq.encode(pixels).latents
    temperature = decoder.entry.temperature
    keep = KeepOutside(pipeline.scheduler, original, _cells(inside, original), generator, temperature)
    end = _counting(step_counter(on_step, settings.steps, pipeline.scheduler), keep)
    latents = initial_latents(pipeline, side, generator, temperature)
    cells = _cells(inside, original)
    with _drawn_into(pipeline.unet, pixels, cells if things else torch.zeros_like(cells)):
        images = pipeline(latents=latents, callback_on_step_end=end, **arguments).images
    return decoder.finish(images, inputs, settings.size)


def _by_ip_adapter(
    decoder: IpAdapterDecoder, inputs: IpAdapterInputs, settings: Settings, on_step: Callable[[int], None], patch: Patch
) -> Image.Image:
    with quiet_diffusers():
        pipeline = AutoPipelineForInpainting.from_pipe(decoder.pipeline)
    pipeline.set_progress_bar_config(disable=True)
    multiple = 8 * pipeline.vae_scale_factor
    side = -(-settings.size // multiple) * multiple
    generator = torch.Generator().manual_seed(settings.seed)
    keep = None
    if not decoder.entry.inpaints_only:
        pipeline = _with_repeated_steps(pipeline)
        pixels, inside = _tensors(patch, side, pipeline)
        with torch.inference_mode():
            original = pipeline._encode_vae_image(image=pixels, generator=generator)
        keep = KeepOutside(pipeline.scheduler, original, _cells(inside, original), generator)
    embeddings = [inputs.negative, inputs.positive] if settings.guidance > 1 else [inputs.positive]
    pipeline.set_ip_adapter_scale(inputs.scale)
    with quiet_diffusers():
        output = pipeline(
            inputs.prompt,
            negative_prompt=inputs.negative_prompt or None,
            ip_adapter_image_embeds=[torch.cat(embeddings)],
            image=patch.image(side),
            mask_image=patch.mask(side),
            strength=1.0,
            height=side,
            width=side,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=generator,
            output_type="np",
            callback_on_step_end=_counting(step_counter(on_step, settings.steps, pipeline.scheduler), keep),
        )
    if any(getattr(output, "nsfw_content_detected", None) or ()):
        raise ClipkitError(f"the safety checker of {decoder.entry.id} withheld the picture: try another seed")
    return to_image(output.images[0], settings.size)


def _by_stable_unclip(
    decoder: StableUnclipDecoder,
    inputs: StableUnclipInputs,
    settings: Settings,
    on_step: Callable[[int], None],
    patch: Patch,
) -> Image.Image:
    pipeline = _with_repeated_steps(decoder.pipeline)
    multiple = 8 * pipeline.vae_scale_factor
    side = -(-settings.size // multiple) * multiple
    generator = torch.Generator().manual_seed(settings.seed)
    pixels, inside = _tensors(patch, side, pipeline)
    with torch.inference_mode():
        original = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    keep = KeepOutside(pipeline.scheduler, original, _cells(inside, original), generator)
    count = step_counter(on_step, settings.steps, pipeline.scheduler)
    steps_taken = 0

    def callback(_: int, timestep: Any, latents: torch.Tensor) -> None:
        # This pipeline's callback cannot return latents, so they are changed in place.
        nonlocal steps_taken
        latents.copy_(keep(pipeline, steps_taken, timestep, {"latents": latents})["latents"])
        steps_taken += 1
        count()

    pipeline.negative = inputs.negative
    with quiet_diffusers():
        output = pipeline(
            prompt=inputs.prompt,
            negative_prompt=inputs.negative_prompt or None,
            image_embeds=inputs.positive,
            noise_level=inputs.noise_level,
            height=side,
            width=side,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=generator,
            output_type="np",
            callback=callback,
        )
    return to_image(output.images[0], settings.size)


def _with_repeated_steps(pipeline: Any) -> Any:
    """Return a view of the pipeline, of the same parts, that takes the steps of RePaint."""
    view = copy.copy(pipeline)
    view.__dict__["scheduler"] = RepaintScheduler.like(pipeline.scheduler)
    return view


def _counting(count: Callable[[], None], keep: KeepOutside | None = None) -> Callable[..., dict[str, Any]]:
    """Return a pipeline's `callback_on_step_end` that counts the steps, and keeps what is outside the mask."""

    def end(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        count()
        return values if keep is None else keep(pipeline, step, timestep, values)

    return end


def _tensors(patch: Patch, side: int, pipeline: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixels in [-1, 1] (1, 3, side, side) and the mask in 0 and 1 (1, 1, side, side)."""
    pixels = torch.from_numpy(np.array(patch.image(side))).permute(2, 0, 1)[None].float() / 127.5 - 1
    inside = torch.from_numpy(np.array(patch.mask(side))).gt(0)[None, None].float()
    device, dtype = pipeline._execution_device, pipeline.unet.dtype
    return pixels.to(device, dtype), inside.to(device, dtype)


def _cells(inside: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Return the mask of the latents' cells (1, 1, h, w): those that contain a pixel to be painted."""
    return F.adaptive_max_pool2d(inside.float(), latents.shape[-2:]).to(inside)


@contextlib.contextmanager
def _drawn_into(unet: Any, pixels: torch.Tensor, cells: torch.Tensor) -> Iterator[None]:
    """Let the bundled decoder draw its sketch into these surroundings; other decoders have no sketch."""
    if not isinstance(unet, SketchUNet):
        yield
        return
    unet.surroundings = pixels, F.interpolate(cells, scale_factor=pixels.shape[-1] / cells.shape[-1])
    try:
        yield
    finally:
        unet.surroundings = None
