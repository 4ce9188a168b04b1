"""Quantising towers to 8 bits: a quarter of the memory, up to twice the speed on a CPU, if search quality permits.

Weights are quantised to int8 per output channel, activations dynamically. Cosines do not tell what that costs, because
neighbours are close together, so the criterion is recall@10 against float32.
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
from clipkit.models.onnx import exports
from clipkit.models.onnx.export import measure
from clipkit.models.onnx.graphs import quiet
from clipkit.models.onnx.session import OnnxEncoder, exported_encoder
from clipkit.progress import Progress, ProgressCallback
from clipkit.vectors.unit import unit

MINIMUM_RECALL = 0.98
"""Recall@10 that a quantised tower must reach to be kept."""
SAMPLE_IMAGES = 500
"""Number of images to measure recall on; crops make up for missing files."""
MINIMUM_FILES = 50
"""Number of image files needed. Among fewer, ten neighbours would be a large part of all images."""


@dataclass(frozen=True)
class Verdict:
    """The result for one tower: recall@10 against float32, whether it was kept, and images or texts per second."""

    tower: str
    recall: float
    kept: bool
    rate_float32: float
    rate_int8: float


def quantise(
    model_id: str,
    pictures: Sequence[str | Path],
    queries: Sequence[str],
    *,
    progress: ProgressCallback | None = None,
) -> list[Verdict]:
    """Quantise both towers of an exported model, and keep each that reaches MINIMUM_RECALL.

    The image tower must also be faster than in float32.

    model_id: canonical id.
    pictures: image files or folders, to test on.
    queries: texts to test on, such as `clipkit.matching.concepts()`.

    The image tower is tested on the ten nearest neighbours of every image, with only the queries quantised and with
    all vectors quantised; the lower recall counts. The text tower is tested on the ten images nearest to each query.
    Raises ClipkitError for fewer than MINIMUM_FILES readable images, ModelNotAvailable if the model has no export in
    float32, OSError if the cache cannot be written.
    """
    exported = exports.find_export(model_id)
    if not exported or exported.refused or exported.int8:
        raise ModelNotAvailable(
            f"{model_id} has no ONNX export in float32; run `clipkit models export {model_id}` to create it"
        )
    before = exported_encoder(exported)
    pixels = sample_images(_files(pictures), before.preprocessing)
    truth = _encode(before, pixels, "float32", progress)
    verdicts: list[Verdict] = []
    with exports.new_export_folder(exported.space, needed=sum(exported.files.values()), wait=True) as new:
        assert new is not None
        facts = dict(exported.facts)
        for tower in ("text", "image"):
            name = f"{tower}-int8-{time.time_ns():x}.onnx"
            _quantise(exported.folder / exported.facts[tower], new / name)
            trial = exported_encoder(replace(exported, facts={**exported.facts, tower: name}, folder=new))
            if tower == "image":
                quantised = _encode(trial, pixels, "int8", progress)
                score = min(recall(truth, truth, quantised, quantised), recall(truth, truth, quantised, truth))
                rates = measure(before, trial)
            else:
                words = [unit(encoder.encode_texts(list(queries))) for encoder in (before, trial)]
                score = recall(words[0], truth, words[1], truth, same=False)
                rates = _text_rate(before, queries[0]), _text_rate(trial, queries[0])
            del trial  # Windows cannot move a mapped file
            kept = score >= MINIMUM_RECALL and (tower == "text" or rates[1] > rates[0])
            verdicts.append(Verdict(tower, round(score, 4), kept, *rates))
            if kept:
                facts[tower] = name
            else:
                for path in new.glob(f"{Path(name).stem}.*"):
                    path.unlink()
        kept_towers = {v.tower: v.recall for v in verdicts if v.kept}
        if kept_towers:
            stems = {Path(facts[tower]).stem for tower in ("text", "image")}
            files = {n: s for n, s in exported.files.items() if Path(n).stem in stems or n == "tokenizer.json"}
            rates = next((v.rate_float32, v.rate_int8) for v in verdicts if v.tower == "image")
            torch_rate, onnx_rate = exported.image_rates or (0.0, 1.0)
            faster = rates[1] / rates[0] if "image" in kept_towers else 1.0
            image_rates = (torch_rate, round(onnx_rate * faster, 2))
            exports.publish(replace(exported, facts=facts, files=files, int8=kept_towers, image_rates=image_rates), new)
    return verdicts


def _quantise(source: Path, target: Path) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            use_external_data_format=True,
            # The type of what ONNX Runtime's own operators return, which onnx cannot infer.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )


def _files(paths: Sequence[str | Path]) -> list[Path]:
    """Return the image files among the paths, and those in the folders among them."""
    roots = [Path(path).expanduser().absolute() for path in paths]
    return [found.path for found in walk(roots, ()) if isinstance(found, FoundFile)]


def sample_images(files: Sequence[Path], preprocessing: Preprocessing) -> np.ndarray:
    """Return up to SAMPLE_IMAGES different images, uint8 (n, size, size, 3): whole files first, then crops of them.

    Raises ClipkitError for fewer than MINIMUM_FILES readable files.
    """
    from clipkit.images.decoding import open_picture

    files = list(files)
    if len(files) > SAMPLE_IMAGES:  # spread over all files
        files = [files[i] for i in np.linspace(0, len(files) - 1, SAMPLE_IMAGES).astype(int)]
    whole = []
    for file in files:
        try:
            whole.append(open_picture(file, shortest_side=2 * preprocessing.size).image)
        except UnreadableImage:
            continue
    if len(whole) < MINIMUM_FILES:
        raise ClipkitError(
            f"8 bits are tested on at least {MINIMUM_FILES} pictures, preferably {SAMPLE_IMAGES}, and {len(whole)} can "
            "be read; name more with --pictures"
        )
    images, corner = [preprocessing.pixels(image) for image in whole], 0
    while len(images) < SAMPLE_IMAGES and corner < 4:
        for image in whole[: SAMPLE_IMAGES - len(images)]:
            width, height = (side * 6 // 10 for side in image.size)
            left, top = (image.width - width) * (corner % 2), (image.height - height) * (corner // 2)
            images.append(preprocessing.pixels(image.crop((left, top, left + max(1, width), top + max(1, height)))))
        corner += 1
    return np.stack(images)


def recall(
    queries: np.ndarray, vectors: np.ndarray, other_queries: np.ndarray, other_vectors: np.ndarray, *, same: bool = True
) -> float:
    """Return recall@10: the share of the ten `vectors` nearest to each query that the other vectors find as well.

    All are unit vectors, queries (q, d) and vectors (n, d).
    same: whether the queries are the vectors themselves; a vector is then not its own neighbour.
    """

    def nearest(rows: np.ndarray, stored: np.ndarray) -> np.ndarray:
        scores = rows @ stored.T
        if same:
            np.fill_diagonal(scores, -np.inf)
        return np.argsort(-scores, axis=1, kind="stable")[:, :10]

    pairs = zip(nearest(queries, vectors), nearest(other_queries, other_vectors), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in pairs]))


def _encode(encoder: OnnxEncoder, pixels: np.ndarray, what: str, progress: ProgressCallback | None) -> np.ndarray:
    parts = []
    for start in range(0, len(pixels), 16):
        parts.append(encoder.encode_images(pixels[start : start + 16]))
        if progress:
            progress(Progress(f"encoding images in {what}", min(start + 16, len(pixels)), len(pixels)))
    return unit(np.concatenate(parts))


def _text_rate(encoder: OnnxEncoder, text: str) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        encoder.encode_texts([text])
        times.append(time.perf_counter() - started)
    return round(1 / min(times), 2)
