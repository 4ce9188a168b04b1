"""From an open_clip model to its ONNX form in the cache: exported once, compared with torch, and timed against it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from clipkit.errors import ModelNotAvailable
from clipkit.models.encoder import Encoder, OpenClipEncoder, load_torch_encoder
from clipkit.models.memory import free_memory, is_out_of_memory
from clipkit.models.onnx import exports
from clipkit.models.onnx.exports import Exported
from clipkit.models.onnx.graphs import Tower, agreement, compact_tokens, graph_of, on_cpu
from clipkit.models.onnx.session import exported_encoder
from clipkit.models.registry import canonical_id
from clipkit.models.tokenizing import tokenizer_from
from clipkit.progress import Progress, ProgressCallback

MEMORY = 2.5
"""Main memory that an export takes, beside the model itself, as a multiple of the model's size in float32."""

ENOUGH = 0.9999
"""The cosine that vectors of both ways must have at least, and the vectors of an existing library with new ones."""

_TEXTS = (
    "a dog", "A cat on the beach, at night!", "", "two men riding bicycles down a busy street in the rain", "ein Hund",
    "海滩上的狗", "naïve café — “quoted” & more", "12345 67890", "the quick brown fox jumps over the lazy dog " * 12,
)  # fmt: skip


class NoRoom(Exception):
    """There is no memory to export this model in; the message says so. It is tried again the next time."""


class Refused(Exception):
    """This model is not used in ONNX; the message says why. It is remembered and not tried again."""


def export(
    encoder: OpenClipEncoder, *, wait: bool = False, again: bool = False, progress: ProgressCallback | None = None
) -> Exported | None:
    """Exports both towers of a loaded model into the cache, unless the export there is of just these weights.

    Returns the export, refused or not; None while another process is at it and not `wait`. Raises OSError if the
    cache cannot be written or has no room, NoRoom if the machine has too little memory free.
    """
    weights = _digest(encoder)
    there = exports.find(encoder.space)
    if there and there.weights == weights and not again:
        return there
    size = sum(p.numel() * 4 for p in encoder.model.parameters())
    _must_fit(size, encoder.device)
    with exports.exporting(encoder.space, needed=int(2.2 * size), wait=wait) as made:
        if made is None:
            return None
        there = exports.find(encoder.space)
        if there and there.weights == weights and not again:
            return there  # made by another process while we waited
        return exports.publish(_make(encoder, weights, made, progress), made)


def _must_fit(size: int, device: str) -> None:
    """Raises NoRoom where a model of `size` bytes cannot be exported: a system that runs out of memory kills us.

    A model on a GPU is copied to the main memory first, which on such machines is often the smaller.
    """
    needed, free = int((MEMORY + (device != "cpu")) * size), free_memory()
    if needed > free:
        raise NoRoom(f"that takes {needed / 1e9:,.1f} GB of memory and {free / 1e9:,.1f} GB are free")


def export_space(space: str, *, progress: ProgressCallback | None = None) -> Exported:
    """Exports a space anew, waiting for another process that is at it.

    Raises ModelNotAvailable if the model cannot be loaded, the cache cannot be written or the memory is too small.
    """
    encoder = load_torch_encoder(canonical_id(space), "cpu")
    try:
        exported = export(encoder, wait=True, again=True, progress=progress)
    except OSError as error:
        raise ModelNotAvailable(f"{exports.cache()} cannot be written: {error.strerror or error}") from error
    except NoRoom as error:
        raise ModelNotAvailable(f"{space} cannot be exported to ONNX now: {error}") from error
    assert exported is not None
    return exported


def _make(encoder: OpenClipEncoder, weights: str, made: Path, progress: ProgressCallback | None) -> Exported:
    def step(done: int) -> None:
        if progress:
            progress(Progress("preparing the model for fast search, once", done, 4))

    step(0)
    blank = Exported(exports.folder_of(encoder.space), encoder.space, weights, {}, {})
    blank = replace(
        blank, source=exports.stamp(exports.weights_file(encoder.space)), versions=exports.library_versions()
    )
    try:
        facts = _facts(encoder, made)
        with on_cpu(encoder):
            for done, tower in enumerate(("text", "image")):
                facts[tower] = f"{tower}-{weights[:8]}-{time.time_ns():x}.onnx"
                _write(encoder, tower, made / facts[tower])  # type: ignore[arg-type]
                step(done + 1)
            # The manifest's paths are those of the finished export; until then the files lie in `made`.
            trial = exported_encoder(replace(blank, facts=facts, folder=made))
            cosines = compare(encoder, trial)
            step(3)
            if min(cosines.values()) < ENOUGH:
                least = min(cosines, key=lambda tower: cosines[tower])
                raise Refused(f"its {least} vectors are not those of torch (cosine {cosines[least]:.5f})")
            rates = measure(encoder, trial)
        step(4)
    except OSError:
        raise
    except Exception as error:  # the exporter raises whatever it likes over a model that it does not know
        if is_out_of_memory(error):
            raise NoRoom("the memory ran out") from error
        if shutil.disk_usage(made).free < 2**24:  # ONNX Runtime tells so in an error of its own
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        reason = str(error) if isinstance(error, Refused) else f"it cannot be exported: {type(error).__name__}"
        return replace(blank, refused=reason)
    return replace(blank, facts=facts, cosines=cosines, image_rates=rates)


def _facts(encoder: OpenClipEncoder, made: Path) -> dict:
    return {
        "dimension": encoder.dimension,
        "preprocessing": asdict(encoder.preprocessing),
        "vocabulary": sorted(encoder.vocabulary),
        "concepts": list(encoder.concepts),
        "match": encoder.match,
        "tokenizer": describe_tokenizer(encoder.tokenizer, made),
    }


def describe_tokenizer(theirs, made: Path) -> dict:
    """How to tokenise as a tokenizer of open_clip does, but without torch, for `tokenizing.tokenizer_from`.

    Files that are needed are written to `made`. Raises Refused for what cannot be done so, which is tried on texts of
    many alphabets.
    """
    from open_clip import tokenizer as known

    cleaning = {known._clean_lower: "lower", known._clean_whitespace: "whitespace"}
    how = cleaning.get(getattr(theirs, "clean_fn", known._clean_canonicalize), "canonicalize")
    if isinstance(theirs, known.SimpleTokenizer):
        description = {"kind": "clip", "context_length": theirs.context_length, "cleaning": how}
    elif hasattr(getattr(theirs, "tokenizer", None), "backend_tokenizer"):
        theirs(["a"])  # sets truncation and padding, which the definition then holds
        zeroed = theirs.tokenizer.sep_token_id if getattr(theirs, "strip_sep_token", False) else None
        (made / "tokenizer.json").write_text(theirs.tokenizer.backend_tokenizer.to_str(), "utf-8")
        description = {"kind": "hub", "file": "tokenizer.json", "cleaning": how, "zeroed": zeroed}
    else:
        raise Refused(f"its tokenizer {type(theirs).__name__} needs torch")
    ours = tokenizer_from(description, made)
    rng = random.Random(0)
    alphabets = [
        (32, 126),
        (97, 122),
        (0xA0, 0x24F),
        (0x370, 0x52F),
        (0x5D0, 0x6FF),
        (0x3040, 0x30FF),
        (0x4E00, 0x9FFF),
    ]
    made_up = (
        "".join(chr(rng.randint(*alphabet)) if rng.random() < 0.8 else " " for _ in range(rng.randint(1, 60)))
        for alphabet in alphabets
        for _ in range(40)
    )
    texts = [*_TEXTS, *made_up]
    if not np.array_equal(ours(texts), theirs(texts).numpy()):
        raise Refused("its tokenizer gives other tokens without torch")
    return description


def _write(encoder: OpenClipEncoder, tower: Tower, path: Path) -> None:
    """One tower, simplified by ONNX Runtime for any CPU, with its weights in a file beside it."""
    from onnxruntime import GraphOptimizationLevel, SessionOptions

    from clipkit.models.onnx.session import open_session

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
    """How well the vectors of both encoders agree, by tower (see `agreement`); in batches of one and of several."""
    texts = list(_TEXTS)
    pictures = _pictures(encoder.preprocessing.size, 4)
    ours = {
        "text": np.concatenate([other.encode_texts(texts), other.encode_texts(texts[:1])]),
        "image": np.concatenate([other.encode_images(pictures), other.encode_images(pictures[:1])]),
    }
    theirs = {"text": encoder.encode_texts([*texts, texts[0]])}
    theirs["image"] = np.concatenate([encoder.encode_images(pictures), encoder.encode_images(pictures[:1])])
    return {tower: agreement(ours[tower], theirs[tower]) for tower in ours}


def measure(
    encoder: Encoder, other: Encoder, *, batch: int = 8, rounds: int = 8, longest: float = 8.0
) -> tuple[float, float]:
    """Pictures a second of both image towers, each at its best of up to `rounds` runs in turn within `longest` seconds.

    The best and not the median: what else the machine does can only slow a run down, and may do so for most of them.
    """
    pictures = _pictures(encoder.preprocessing.size, batch)
    best = [float("inf"), float("inf")]
    end = time.perf_counter() + longest
    for done in range(rounds + 1):
        if done > 1 and time.perf_counter() > end:
            break
        for which, tower in enumerate((encoder, other)):
            started = time.perf_counter()
            tower.encode_images(pictures)
            if done:  # the first run warms up
                best[which] = min(best[which], time.perf_counter() - started)
    return round(batch / best[0], 2), round(batch / best[1], 2)


def _pictures(size: int, count: int) -> np.ndarray:
    """Made pictures, uint8 (count, size, size, 3): clouds of colour with some grain, the same each time."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 8, 3))
    steps = np.arange(size) * 8 // size
    grain = rng.integers(-20, 21, (count, size, size, 3))
    return np.clip(coarse[:, steps][:, :, steps] + grain, 0, 255).astype(np.uint8)


def _digest(encoder: OpenClipEncoder) -> str:
    """Of all parameters and buffers, and of what else makes the vectors."""
    import torch
    import xxhash

    digest = xxhash.xxh3_128()
    digest.update(f"{exports.FORMAT} {encoder.model} {encoder.preprocessing} {encoder.concepts}".encode())
    for name, value in encoder.model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
