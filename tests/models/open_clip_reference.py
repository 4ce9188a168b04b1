"""Write checkpoints with random weights into a hub cache, and the vectors that open_clip computes with them.

    python open_clip_reference.py FOLDER PICTURE...

Run as a program, independent of clipkit. The architectures are open_clip's, most with smaller numbers in their
configuration (`CASES`); ViT-B-32-256 has its real size. FOLDER/hub is the hub cache, FOLDER/configs has the small
configurations, FOLDER/vectors.npz the vectors of pictures and texts. $HF_HOME must be FOLDER.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

TEXTS = ["a dog on the beach", "Zwei Katzen im Schnee, nachts!", "", "the  quick brown fox &amp; friends " * 20]
COMMIT = hashlib.sha1(b"random weights").hexdigest()

SMALL_TEXT = {"width": 64, "heads": 2, "layers": 2}
CASES: dict[str, dict] = {
    "ViT-B-32-256/datacomp_s34b_b86k": {},
    "ViT-L-14/openai": {"vision_cfg": {"layers": 2, "width": 128}, "text_cfg": SMALL_TEXT, "embed_dim": 48},
    "ViT-L-14/laion2b_s32b_b82k": {"vision_cfg": {"layers": 2, "width": 128}, "text_cfg": SMALL_TEXT, "embed_dim": 48},
    "ViT-H-14/laion2b_s32b_b79k": {"vision_cfg": {"layers": 2, "width": 160}, "text_cfg": SMALL_TEXT, "embed_dim": 56},
    "ViT-bigG-14/laion2b_s39b_b160k": {
        "vision_cfg": {"layers": 2, "width": 208},
        "text_cfg": SMALL_TEXT,
        "embed_dim": 64,
    },
    "ViT-B-32-SigLIP2-256/webli": {"text_cfg": {"vocab_size": 600, "layers": 2}},
    "xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k": {
        "vision_cfg": {"layers": 2, "width": 160},
        "embed_dim": 56,
    },
    "RN50/openai": {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 16}, "text_cfg": SMALL_TEXT, "embed_dim": 48},
    "coca_ViT-B-32/laion2b_s13b_b90k": {
        "vision_cfg": {"layers": 2, "width": 128},
        "text_cfg": {**SMALL_TEXT, "width": 128},
        "multimodal_cfg": {"width": 128, "heads": 2, "layers": 1},
        "embed_dim": 128,
    },
    "PE-Core-T-16-384/meta": {"text_cfg": SMALL_TEXT},
    "ViT-H-14-quickgelu/dfn5b": {"vision_cfg": {"layers": 2, "width": 160}, "text_cfg": SMALL_TEXT, "embed_dim": 56},
}
HUB_ONLY = "hf-hub:somebody/her-own-clip"
"""A repository that is not in open_clip's table; its configuration sets the activation, preprocessing and so on."""


def put_in_hub(cache: Path, repository: str, files: dict[str, Path]) -> Path:
    """Move files into a hub cache, in its layout; return the snapshot's folder."""
    folder = cache / ("models--" + repository.replace("/", "--"))
    snapshot = folder / "snapshots" / COMMIT
    for part in (folder / "blobs", folder / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for name, path in files.items():
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        os.replace(path, folder / "blobs" / digest)
        (snapshot / name).unlink(missing_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(folder / "blobs" / digest, snapshot))
    return snapshot


def small(config: dict, changes: dict) -> dict:
    """Return a configuration with other numbers, merging the tables of the towers."""
    return {k: {**v, **changes.get(k, {})} if isinstance(v, dict) else changes.get(k, v) for k, v in config.items()}


def names(repository_and_file: str) -> tuple[str, str]:
    """Return the repository and the safetensors file that open_clip looks for in it."""
    return repository_and_file.rpartition("/")[0], "open_clip_model.safetensors"


def save_weights(model, path: Path) -> Path:
    """Save weights in half precision, to halve the files; both programs load the same."""
    from safetensors.torch import save_file

    save_file({name: value.half().contiguous().clone() for name, value in model.state_dict().items()}, path)
    return path


def write_tokenizer(folder: Path, kind: str) -> dict[str, Path]:
    """Train a small tokenizer of the real kind on a few sentences, and write the files that transformers reads."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    sentences = [*TEXTS, "a photo of a cat", "ein Foto von einem Hund", "une photo d'un chien", "the moon over the sea"]
    if kind == "gemma":
        special = ["<pad>", "<eos>", "<bos>", "<unk>"]
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        bytes_ = [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=special + bytes_, show_progress=False)
        tokenizer.train_from_iterator(sentences, trainer)
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
        config = {
            "tokenizer_class": "GemmaTokenizer",
            "pad_token": "<pad>",
            "eos_token": "<eos>",
            "bos_token": "<bos>",
            "unk_token": "<unk>",
            "add_bos_token": False,
            "add_eos_token": True,
            "padding_side": "right",
            "model_max_length": 64,
        }
    else:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(sentences, trainer)
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.post_processor = processors.TemplateProcessing(
            "<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        config = {
            "tokenizer_class": "XLMRobertaTokenizer",
            "pad_token": "<pad>",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "cls_token": "<s>",
            "sep_token": "</s>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
            "model_max_length": 512,
        }
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return {name: folder / name for name in ("tokenizer.json", "tokenizer_config.json")}


def write_text_model(folder: Path) -> dict[str, Path]:
    """Write xlm-roberta's configuration with small numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["XLMRobertaForMaskedLM"],
        "model_type": "xlm-roberta",
        "vocab_size": 300,
        "hidden_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 112,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "output_past": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return {"config.json": folder / "config.json"}


def main(folder: Path, pictures: list[Path]) -> None:
    import numpy as np
    import open_clip
    import torch
    from PIL import Image

    cache, new, vectors = folder / "hub", folder / "new", {}
    new.mkdir(parents=True)
    (folder / "configs").mkdir()
    for name in dict.fromkeys(case.partition("/")[0] for case in CASES):
        changes = next(change for case, change in CASES.items() if case.partition("/")[0] == name)
        config = small(open_clip.get_model_config(name), changes)
        for stem in (name, f"{name}-quickgelu") if name in ("ViT-L-14", "RN50") else (name,):
            own = {**config, "quick_gelu": True} if stem.endswith("-quickgelu") else config
            (folder / "configs" / f"{stem}.json").write_text(json.dumps(own))
    open_clip.add_model_config(folder / "configs")
    gemma = put_in_hub(cache, "timm/ViT-B-32-SigLIP2-256", write_tokenizer(new / "gemma", "gemma"))
    # The hub's client records that a repository does not have a file; transformers looks for it.
    absent = gemma.parent.parent / ".no_exist" / COMMIT / "config.json"
    absent.parent.mkdir(parents=True)
    absent.touch()
    put_in_hub(cache, "xlm-roberta-large", {**write_tokenizer(new / "xlmr", "xlmr"), **write_text_model(new / "xlmr")})

    def compare(key: str, name: str, tag: str | None) -> None:
        model, _, preprocess = open_clip.create_model_and_transforms(name, tag, cache_dir=str(cache))
        tokenize = open_clip.get_tokenizer(name, cache_dir=str(cache))
        model.eval()
        with torch.inference_mode():
            images = torch.stack([preprocess(Image.open(path).convert("RGB")) for path in pictures])
            vectors[f"{key} images"] = model.encode_image(images).numpy()
            vectors[f"{key} texts"] = model.encode_text(tokenize(TEXTS)).numpy()

    for seed, case in enumerate(CASES):
        name, _, tag = case.partition("/")
        torch.manual_seed(seed)
        model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
        repository, file = names(open_clip.get_pretrained_cfg(name, tag)["hf_hub"])
        put_in_hub(cache, repository, {file: save_weights(model, new / "weights")})
        # OpenAI's weights need QuickGELU, which open_clip uses only if the architecture's name says so.
        compare(case, f"{name}-quickgelu" if case in ("ViT-L-14/openai", "RN50/openai") else name, tag)

    torch.manual_seed(99)
    config = small(open_clip.get_model_config("ViT-B-32"), CASES["ViT-L-14/openai"]) | {"quick_gelu": True}
    model = open_clip.create_model("ViT-B-32", load_weights=False, **{**config, "quick_gelu": True})
    preprocess = {
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bilinear",
        "resize_mode": "longest",
        "fill_color": 127,
    }
    (new / "config").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    put_in_hub(
        cache,
        HUB_ONLY.removeprefix("hf-hub:"),
        {"open_clip_config.json": new / "config", "open_clip_model.safetensors": save_weights(model, new / "weights")},
    )
    compare(HUB_ONLY, HUB_ONLY, None)
    np.savez(folder / "vectors.npz", **vectors)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
