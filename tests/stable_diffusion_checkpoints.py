"""Small checkpoints of IP-Adapter and Stable unCLIP with random weights, of the real classes and in the real layout."""

from __future__ import annotations

import json
from pathlib import Path

from kandinsky_checkpoint import DIM, small_tokenizer


def text_config(tokens: int, width: int = 32):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=width,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - 1,
    )


def image_tower():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            image_size=32,
            patch_size=8,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=DIM,
        )
    )


def codec():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32),
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=32,
    )


def unet(cross: int, channels: int = 4, **more):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=8,
        norm_num_groups=8,
        **more,
    )


def schedule():
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def write_adapter(model, path: Path, *, hidden_states: bool = False) -> None:
    """Write an adapter's weights for a UNet, named as in h94/IP-Adapter."""
    import torch
    from safetensors.torch import save_file

    cross = model.config.cross_attention_dim
    if hidden_states:
        state = {"image_proj.latents": torch.randn(1, 4, cross)}
    else:
        state = {
            "image_proj.proj.weight": torch.randn(4 * cross, DIM) * 0.3,
            "image_proj.proj.bias": torch.randn(4 * cross) * 0.1,
            "image_proj.norm.weight": torch.ones(cross),
            "image_proj.norm.bias": torch.zeros(cross),
        }
    attentions = [name for name in model.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(attentions):
        width = model.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for part in ("k", "v"):
            state[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(width, cross) * 0.3
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def write_ip_adapter(folder: Path, *, xl: bool, inpainting: bool = False) -> None:
    """Write a Stable Diffusion 1.5 or XL folder, with the adapter and its image tower in `models/`.

    `inpainting`: with a UNet that also takes the mask and the masked picture.
    """
    import torch
    from diffusers import (
        StableDiffusionInpaintPipeline,
        StableDiffusionPipeline,
        StableDiffusionXLInpaintPipeline,
        StableDiffusionXLPipeline,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(1)
    tokenizer, tokens = small_tokenizer(folder / "tokenizer-files")
    channels = 9 if inpainting else 4
    if xl:
        model = unet(
            64,
            channels,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,
            transformer_layers_per_block=(1, 1),
            use_linear_projection=True,
        )
        (StableDiffusionXLInpaintPipeline if inpainting else StableDiffusionXLPipeline)(
            vae=codec(),
            text_encoder=CLIPTextModel(text_config(tokens)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokens)),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=model,
            scheduler=schedule(),
            add_watermarker=False,
        ).save_pretrained(folder)
    else:
        model = unet(32, channels)
        (StableDiffusionInpaintPipeline if inpainting else StableDiffusionPipeline)(
            vae=codec(),
            text_encoder=CLIPTextModel(text_config(tokens)),
            tokenizer=tokenizer,
            unet=model,
            scheduler=schedule(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
    write_adapter(model, folder / "models" / "ip-adapter_random.safetensors")
    image_tower().save_pretrained(folder / "models" / "image_encoder")
    (folder / "clipkit.json").write_text(json.dumps({"family": "ip-adapter", "size": 32, "steps": 3}))


def write_stable_unclip(folder: Path) -> None:
    """Write a folder as `StableUnCLIPImg2ImgPipeline.save_pretrained` does."""
    import torch
    from diffusers import DDPMScheduler, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import CLIPImageProcessor, CLIPTextModel

    torch.manual_seed(2)
    tokenizer, tokens = small_tokenizer(folder / "tokenizer-files")
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        image_encoder=image_tower(),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=DIM),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer,
        text_encoder=CLIPTextModel(text_config(tokens)),
        unet=unet(
            32,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=2 * DIM,
            use_linear_projection=True,
        ),
        scheduler=schedule(),
        vae=codec(),
    ).save_pretrained(folder)
    (folder / "clipkit.json").write_text(json.dumps({"family": "stable-unclip", "size": 32, "steps": 3}))
