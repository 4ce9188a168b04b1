"""A Kandinsky 2.2 checkpoint of the real classes and the real layout on disk, small, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

DIM = 32


def small_tokenizer(folder: Path):
    """CLIP's tokenizer with letters for words, and how many tokens it has."""
    from transformers import CLIPTokenizer

    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    return tokenizer, len(tokens)


def write_checkpoint(folder: Path) -> None:
    """A decoder folder as `KandinskyV22Pipeline.save_pretrained` writes it, with the prior pipeline in `prior/`."""
    import torch
    from diffusers import (
        DDPMScheduler,
        KandinskyV22Pipeline,
        KandinskyV22PriorPipeline,
        PriorTransformer,
        UnCLIPScheduler,
        UNet2DConditionModel,
        VQModel,
    )
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        resnet_time_scale_shift="scale_shift",
        encoder_hid_dim=DIM,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
    )
    movq = VQModel(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=4,
        num_vq_embeddings=12,
        norm_type="spatial",
        vq_embed_dim=4,
        layers_per_block=1,
    )
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, variance_type="learned_range", thresholding=False, clip_sample=False
    )
    KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=movq).save_pretrained(folder)
    tokenizer, words = small_tokenizer(folder / "words")
    text = CLIPTextConfig(
        vocab_size=words,
        hidden_size=DIM,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=DIM,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    vision = CLIPVisionConfig(
        hidden_size=DIM,
        image_size=32,
        patch_size=8,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=DIM,
    )
    prior = PriorTransformer(num_attention_heads=2, attention_head_dim=12, embedding_dim=DIM, num_layers=1)
    prior.clip_std.data.fill_(1.0)  # an untrained one multiplies everything by zero
    KandinskyV22PriorPipeline(
        prior=prior,
        image_encoder=CLIPVisionModelWithProjection(vision),
        text_encoder=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            num_train_timesteps=1000,
            clip_sample=True,
            clip_sample_range=10.0,
        ),
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    ).save_pretrained(folder / "prior")
    (folder / "clipkit.json").write_text(json.dumps({"size": 32, "steps": 4, "guidance": 4.0}))
