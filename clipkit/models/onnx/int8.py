"""Towers in 8 bits: about a quarter of the memory and up to twice the speed on a CPU, kept only if searches stay good.

Weights are stored as int8 by output channel, activations are rounded as they come ("dynamic quantisation"). What that
costs cannot be told from cosines, for neighbours lie close together; so the gate is recall@10 against float32.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clipkit.errors import ClipkitError, ModelNotAvailable, UnreadableImage
from clipkit.images.discovery import FoundFile, walk
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.encoder import unit
from clipkit.models.onnx import exports
from clipkit.models.onnx.export import measure
from clipkit.models.onnx.graphs import quiet
from clipkit.models.onnx.session import OnnxEncoder, exported_encoder
from clipkit.progress import Progress, ProgressCallback

ENOUGH = 0.98
"""Recall@10 that a tower needs to be kept."""
PICTURES = 500
"""Pictures that the gate looks at; where there are fewer, parts of them are taken as well."""
FEWEST = 50
"""Below so many files, ten neighbours would be a good part of all there is."""


@dataclass(frozen=True)
class Verdict:
    """Of one tower: recall@10 of searches against float32, whether it was kept, pictures or texts a second."""

    tower: str
    recall: float
    kept: bool
    rate_float32: float
    rate_int8: float


def quantise(
    space: str,
    pictures: Sequence[str | Path],
    queries: Sequence[str],
    *,
    progress: ProgressCallback | None = None,
) -> list[Verdict]:
    """Tries both towers of an exported space in 8 bits, and keeps each that passes the gate.

    `pictures`: files or folders. The image tower is judged on every picture's ten nearest others, when the queries
    alone and when all vectors are its own, the worse counts; the text tower on the ten pictures nearest to each of the
    `queries`, such as `clipkit.matching.concepts()`. Raises ClipkitError if there are fewer than
    FEWEST readable pictures, ModelNotAvailable if the space has no export in float32; OSError if the cache cannot be
    written.
    """
    exported = exports.find(space)
    if not exported or exported.refused or exported.int8:
        raise ModelNotAvailable(f"{space} has no ONNX form in float32: `clipkit models export {space}` makes it")
    before = exported_encoder(exported)
    pixels = gate_pictures(_files(pictures), before.preprocessing)
    truth = _encoded(before, pixels, "float32", progress)
    verdicts: list[Verdict] = []
    with exports.exporting(exported.space, needed=sum(exported.files.values()), wait=True) as made:
        assert made is not None
        facts = dict(exported.facts)
        for tower in ("text", "image"):
            name = f"{tower}-int8-{time.time_ns():x}.onnx"
            _quantise(exported.folder / exported.facts[tower], made / name)
            trial = exported_encoder(replace(exported, facts={**exported.facts, tower: name}, folder=made))
            if tower == "image":
                theirs = _encoded(trial, pixels, "int8", progress)
                score = min(recall(truth, truth, theirs, theirs), recall(truth, truth, theirs, truth))
                rates = measure(before, trial)
            else:
                words = [unit(encoder.encode_texts(list(queries))) for encoder in (before, trial)]
                score = recall(words[0], truth, words[1], truth, same=False)
                rates = _text_rate(before, queries[0]), _text_rate(trial, queries[0])
            del trial  # Windows moves no file that is mapped
            kept = score >= ENOUGH and (tower == "text" or rates[1] > rates[0])
            verdicts.append(Verdict(tower, round(score, 4), kept, *rates))
            if kept:
                facts[tower] = name
            else:
                for path in made.glob(f"{Path(name).stem}.*"):
                    path.unlink()
        kept_towers = {v.tower: v.recall for v in verdicts if v.kept}
        if kept_towers:
            stems = {Path(facts[tower]).stem for tower in ("text", "image")}
            files = {n: s for n, s in exported.files.items() if Path(n).stem in stems or n == "tokenizer.json"}
            rates = next((v.rate_float32, v.rate_int8) for v in verdicts if v.tower == "image")
            torch_rate, onnx_rate = exported.image_rates or (0.0, 1.0)
            faster = rates[1] / rates[0] if "image" in kept_towers else 1.0
            exports.publish(
                replace(
                    exported, facts=facts, files=files, int8=kept_towers,
                    image_rates=(torch_rate, round(onnx_rate * faster, 2)),
                ),
                made,
            )  # fmt: skip
    return verdicts


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"],
            use_external_data_format=True, extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip


def _files(paths: Sequence[str | Path]) -> list[Path]:
    """Picture files that are named, or lie below folders that are."""
    roots = [Path(path).expanduser().absolute() for path in paths]
    return [found.path for found in walk(roots, ()) if isinstance(found, FoundFile)]


def gate_pictures(files: Sequence[Path], preprocessing: Preprocessing) -> np.ndarray:
    """Up to PICTURES different pictures, uint8 (n, size, size, 3): whole files first, then parts of them.

    Raises ClipkitError below FEWEST readable files.
    """
    from clipkit.images.decoding import open_picture

    files = list(files)
    if len(files) > PICTURES:  # from all over the library
        files = [files[i] for i in np.linspace(0, len(files) - 1, PICTURES).astype(int)]
    whole = []
    for file in files:
        try:
            whole.append(open_picture(file, shortest_side=2 * preprocessing.size).image)
        except UnreadableImage:
            continue
    if len(whole) < FEWEST:
        raise ClipkitError(
            f"8 bits are judged on {FEWEST} pictures or more, better {PICTURES}; {len(whole)} were given"
        )
    pictures, corner = [preprocessing.pixels(image) for image in whole], 0
    while len(pictures) < PICTURES and corner < 4:
        for image in whole[: PICTURES - len(pictures)]:
            width, height = (side * 6 // 10 for side in image.size)
            left, top = (image.width - width) * (corner % 2), (image.height - height) * (corner // 2)
            pictures.append(preprocessing.pixels(image.crop((left, top, left + max(1, width), top + max(1, height)))))
        corner += 1
    return np.stack(pictures)


def recall(
    queries: np.ndarray, vectors: np.ndarray, other_queries: np.ndarray, other_vectors: np.ndarray, *, same: bool = True
) -> float:
    """Recall@10: the share of the ten `vectors` nearest to each query that the others find as well.

    Unit vectors, (q, d) and (n, d). If `same`, queries are the vectors themselves, and none is its own neighbour.
    """

    def nearest(asked: np.ndarray, stored: np.ndarray) -> np.ndarray:
        scores = asked @ stored.T
        if same:
            np.fill_diagonal(scores, -np.inf)
        return np.argsort(-scores, axis=1, kind="stable")[:, :10]

    pairs = zip(nearest(queries, vectors), nearest(other_queries, other_vectors), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in pairs]))


def _encoded(encoder: OnnxEncoder, pixels: np.ndarray, what: str, progress: ProgressCallback | None) -> np.ndarray:
    parts = []
    for start in range(0, len(pixels), 16):
        parts.append(encoder.encode_images(pixels[start : start + 16]))
        if progress:
            progress(Progress(f"encoding pictures in {what}", min(start + 16, len(pixels)), len(pixels)))
    return unit(np.concatenate(parts))


def _text_rate(encoder: OnnxEncoder, text: str) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        encoder.encode_texts([text])
        times.append(time.perf_counter() - started)
    return round(1 / min(times), 2)
