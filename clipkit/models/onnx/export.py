"""Exporting an open_clip model to ONNX, checked and timed against torch."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipkit.models.encoder import Encoder
from clipkit.models.memory import free_memory, is_out_of_memory
from clipkit.models.onnx import exports
from clipkit.models.onnx.exports import Exported
from clipkit.models.onnx.graphs import Tower, agreement, compact_tokens, graph_of, on_cpu
from clipkit.models.onnx.plain_clip import find_plain_clip
from clipkit.models.onnx.session import exported_encoder, open_session
from clipkit.models.reference import ModelRef
from clipkit.models.tokenizing import tokenizer_from
from clipkit.models.torch_encoder import OpenClipEncoder
from clipkit.progress import Progress, ProgressCallback

EXPORT_MEMORY = 2.5
"""Main memory needed by an export beside the loaded model, as a multiple of the model's size in float32."""

MINIMUM_COSINE = 0.9999
"""Cosine that an export's vectors must reach with torch's, so that they can be mixed with those of a library."""

_TEXTS = (
    "a dog",
    "A cat on the beach, at night!",
    "",
    "two men riding bicycles down a busy street in the rain",
    "ein Hund",
    "海滩上的狗",
    "naïve café — “quoted” & more",
    "12345 67890",
    "the quick brown fox jumps over the lazy dog " * 12,
)
_ALPHABETS = (
    (32, 126),
    (97, 122),
    (0xA0, 0x24F),
    (0x370, 0x52F),
    (0x5D0, 0x6FF),
    (0x3040, 0x30FF),
    (0x4E00, 0x9FFF),
)
"""Ranges of code points, to compare tokenizers on."""


class NotEnoughMemory(Exception):
    """Too little memory is free for the export, as the message says. It is tried again next time."""


class ExportRefused(Exception):
    """The model does not work in ONNX, as the message says. That is recorded and it is not tried again."""


def export(
    encoder: OpenClipEncoder, *, wait: bool = False, again: bool = False, progress: ProgressCallback | None = None
) -> Exported | None:
    """Export both towers of a loaded model into the cache, unless there is an export of the same weights.

    wait: wait for another process that is exporting the model, instead of returning None.
    again: export in any case.

    Returns the export, which can be a refused one. Raises OSError if the cache cannot be written or the disk is full,
    NotEnoughMemory if too little main memory is free.
    """
    weights = _digest(encoder)
    existing = exports.find_export(encoder.space)
    if existing and existing.weights == weights and not again:
        return existing
    size = sum(p.numel() * 4 for p in encoder.model.parameters())
    _check_memory(size, encoder.device)
    with exports.new_export_folder(encoder.space, needed=int(2.2 * size), wait=wait) as folder:
        if folder is None:
            return None
        existing = exports.find_export(encoder.space)
        if existing and existing.weights == weights and not again:
            return existing  # another process exported it while this one waited
        return exports.publish(_export_into(folder, encoder, weights, progress), folder)


def _check_memory(size: int, device: str) -> None:
    """Raise NotEnoughMemory if a model of `size` bytes cannot be exported; the system would kill the process.

    A model on a GPU is first copied to main memory.
    """
    needed, free = int((EXPORT_MEMORY + (device != "cpu")) * size), free_memory()
    if needed > free:
        raise NotEnoughMemory(f"that needs {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free")


def _export_into(folder: Path, encoder: OpenClipEncoder, weights: str, progress: ProgressCallback | None) -> Exported:
    def step(done: int) -> None:
        if progress:
            progress(Progress("preparing the model for fast search, once", done, 4))

    step(0)
    blank = Exported(
        exports.folder_of(encoder.space),
        encoder.space,
        weights,
        facts={},
        files={},
        source=exports.file_stamp(exports.weights_file(encoder.space)),
        versions=exports.library_versions(),
    )
    try:
        facts = _facts(encoder, folder)
        plain = find_plain_clip(ModelRef.of(encoder.space))
        towers: tuple[Tower, Tower] = ("text", "image")
        with on_cpu(encoder):
            for done, tower in enumerate(towers):
                facts[tower] = f"{tower}-{weights[:8]}-{time.time_ns():x}.onnx"
                if plain:
                    plain.write(tower, folder / facts[tower])
                else:
                    _write(encoder, tower, folder / facts[tower])
                step(done + 1)
            trial = exported_encoder(replace(blank, facts=facts, folder=folder))
            cosines = compare(encoder, trial)
            step(3)
            if min(cosines.values()) < MINIMUM_COSINE:
                worst = min(cosines, key=lambda tower: cosines[tower])
                raise ExportRefused(f"its {worst} vectors differ from those of torch (cosine {cosines[worst]:.5f})")
            rates = measure(encoder, trial)
        step(4)
    except OSError:
        raise
    except Exception as error:  # torch's exporter raises all kinds of errors for unsupported models
        if is_out_of_memory(error):
            raise NotEnoughMemory("the machine ran out of memory") from error
        if shutil.disk_usage(folder).free < 2**24:  # ONNX Runtime reports a full disk with an error of its own
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        refused = isinstance(error, ExportRefused)
        return replace(blank, refused=str(error) if refused else f"it cannot be exported: {type(error).__name__}")
    return replace(blank, facts=facts, cosines=cosines, image_rates=rates)


def _facts(encoder: OpenClipEncoder, folder: Path) -> dict:
    return {
        "dimension": encoder.dimension,
        "preprocessing": asdict(encoder.preprocessing),
        "vocabulary": sorted(encoder.vocabulary),
        "concepts": list(encoder.concepts),
        "match": encoder.match,
        "tokenizer": describe_tokenizer(encoder.tokenizer, folder),
    }


def describe_tokenizer(tokenizer: Any, folder: Path) -> dict:
    """Describe an open_clip tokenizer for `tokenizing.tokenizer_from`, which does not need torch.

    Files that the description needs are written to `folder`. The result is compared with the original on texts of many
    alphabets; raises ExportRefused if they differ or the tokenizer is not supported.
    """
    from open_clip import tokenizer as known

    names = {known._clean_lower: "lower", known._clean_whitespace: "whitespace"}
    cleaning = names.get(getattr(tokenizer, "clean_fn", known._clean_canonicalize), "canonicalize")
    if isinstance(tokenizer, known.SimpleTokenizer):
        description = {"kind": "clip", "context_length": tokenizer.context_length, "cleaning": cleaning}
    elif hasattr(getattr(tokenizer, "tokenizer", None), "backend_tokenizer"):
        tokenizer(["a"])  # sets truncation and padding, which are then part of the saved definition
        zeroed = tokenizer.tokenizer.sep_token_id if getattr(tokenizer, "strip_sep_token", False) else None
        (folder / "tokenizer.json").write_text(tokenizer.tokenizer.backend_tokenizer.to_str(), "utf-8")
        description = {"kind": "hub", "file": "tokenizer.json", "cleaning": cleaning, "zeroed": zeroed}
    else:
        raise ExportRefused(f"its tokenizer {type(tokenizer).__name__} needs torch")
    rng = random.Random(0)
    random_texts = (
        "".join(chr(rng.randint(*alphabet)) if rng.random() < 0.8 else " " for _ in range(rng.randint(1, 60)))
        for alphabet in _ALPHABETS
        for _ in range(40)
    )
    texts = [*_TEXTS, *random_texts]
    if not np.array_equal(tokenizer_from(description, folder)(texts), tokenizer(texts).numpy()):
        raise ExportRefused("its tokenizer returns other tokens without torch")
    return description


def _write(encoder: OpenClipEncoder, tower: Tower, path: Path) -> None:
    """Write the graph of a tower, optimised by ONNX Runtime for any CPU, with its weights in a file beside it."""
    from onnxruntime import GraphOptimizationLevel, SessionOptions

    raw = path.parent / "raw"
    raw.mkdir()
    with compact_tokens(encoder.model):
        graph_of(encoder, tower, optimize=True).save(raw / "graph.onnx", external_data=True)
    options = SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", path.with_suffix(".weights").name
    )
    open_session(raw / "graph.onnx", options)
    for file in raw.iterdir():
        file.unlink()
    raw.rmdir()


def compare(encoder: OpenClipEncoder, other: Encoder) -> dict[str, float]:
    """Return the `agreement` of the vectors of two encoders by tower, in batches of one and of several."""
    texts = list(_TEXTS)
    images = _test_images(encoder.preprocessing.size, 4)
    expected = {
        "text": encoder.encode_texts([*texts, texts[0]]),
        "image": np.concatenate([encoder.encode_images(images), encoder.encode_images(images[:1])]),
    }
    actual = {
        "text": np.concatenate([other.encode_texts(texts), other.encode_texts(texts[:1])]),
        "image": np.concatenate([other.encode_images(images), other.encode_images(images[:1])]),
    }
    return {tower: agreement(actual[tower], expected[tower]) for tower in actual}


def measure(
    encoder: Encoder, other: Encoder, *, batch: int = 8, rounds: int = 8, seconds: float = 8.0
) -> tuple[float, float]:
    """Return the images per second of two image towers, each the best of up to `rounds` alternating runs.

    Stops after `seconds`. The best is used instead of the median because other load on the machine only slows runs
    down, possibly most of them.
    """
    images = _test_images(encoder.preprocessing.size, batch)
    best = [float("inf"), float("inf")]
    end = time.perf_counter() + seconds
    for done in range(rounds + 1):
        if done > 1 and time.perf_counter() > end:
            break
        for which, tower in enumerate((encoder, other)):
            started = time.perf_counter()
            tower.encode_images(images)
            if done:  # the first run is a warm-up
                best[which] = min(best[which], time.perf_counter() - started)
    return round(batch / best[0], 2), round(batch / best[1], 2)


def _test_images(size: int, count: int) -> np.ndarray:
    """Return synthetic images, uint8 (count, size, size, 3): patches of colour with noise, the same on every call."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3))
    steps = np.arange(size) * 8 // size
    noise = rng.integers(-20, 21, (count, size, size, 3))
    return np.clip(coarse[:, steps][:, :, steps] + noise, 0, 255).astype(np.uint8)


def _digest(encoder: OpenClipEncoder) -> str:
    """Hash all parameters and buffers, and everything else that the vectors depend on."""
    import torch
    import xxhash

    digest = xxhash.xxh3_128()
    digest.update(f"{exports.FORMAT} {encoder.model} {encoder.preprocessing} {encoder.concepts}".encode())
    for name, value in encoder.model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
