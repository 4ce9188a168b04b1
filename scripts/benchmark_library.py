"""A clipkit library of any number of pictures, whose files are empty and whose vectors are generated."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_pictures import WHEN, empty_file, empty_files
from benchmark_process import Measured, apart, run_process
from benchmark_vectors import exact_top, image_vectors, queries

ARCHITECTURE = "ViT-B-32-256"
COMMITTED = 32
"""Pictures in a transaction, as `clipkit index` commits them."""


@dataclass(frozen=True)
class Workshop:
    """The folder in which everything is prepared and kept, and how clipkit is started so that it stays in there.

    model: what `--model` gets: the folder of a checkpoint, or an id.
    """

    folder: Path
    model: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of clipkit's processes: caches and libraries in the folder, and no network."""
        own = {
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "CLIPKIT_INDEXES": str(self.indexes),
            "HF_HUB_OFFLINE": "1",
        }
        return {**os.environ, **own}

    @property
    def indexes(self) -> Path:
        """The folder of the libraries."""
        return self.folder / "indexes"

    def files(self, count: int) -> Path:
        """Return the folder with the empty files of a library of `count` pictures."""
        return self.folder / "files" / str(count)

    def clipkit(self, *arguments: str | Path, **environment: str) -> Measured:
        """Run clipkit as a process of its own."""
        command = [sys.executable, "-m", "clipkit", *map(str, arguments)]
        return run_process(command, {**self.environment, **environment})

    def texts(self) -> np.ndarray:
        """Return the vectors of clipkit's concept bank from the model's text tower, encoded once and kept."""
        path = self.folder / f"concepts-{hashlib.sha256(self.model.encode()).hexdigest()[:8]}.npy"
        if not path.exists():
            apart(_save_concepts, self, path)
        return np.load(path)

    def library(self, count: int, copy: str = "") -> str:
        """Return the name of the library of `count` pictures."""
        return f"pictures-{count}{copy}"


def random_model(folder: Path) -> None:
    """Write a checkpoint of the architecture with random weights, unless it is there. Needs torch: call it `apart`."""
    if (folder / "open_clip_config.json").exists():
        return
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE, pretrained=None).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    preprocess |= {"interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def prepare_library(workshop: Workshop, count: int) -> dict[str, Any] | None:
    """Fill and index a library of `count` pictures, unless it is there.

    Return what it cost, by stage: microseconds to record a picture, seconds to scan all of them and publish the index,
    and to scan them alone; and the peak memory of publishing in MB. It is kept in the library's folder, and read from
    there afterwards. Pictures that were all recorded are not recorded again, because ten million take an hour.
    """
    from clipkit.catalog.layout import Layout

    name = workshop.library(count)
    folder = workshop.indexes / name
    kept, recorded = folder / "prepared.json", folder / "recorded.json"
    if kept.exists():
        return json.loads(kept.read_text("utf-8"))
    if not recorded.exists():
        shutil.rmtree(folder, ignore_errors=True)
        empty_files(workshop.files(count), count)
        recorded.write_text(json.dumps(apart(_fill, workshop, count)))
    built = workshop.clipkit("index", "--name", name, "--json")
    report = json.loads(built.out)
    if report["unchanged"] != count:
        raise RuntimeError(f"of {count} pictures clipkit found {report['unchanged']} unchanged: {report}")
    scanned = workshop.clipkit("index", "--name", name, "--json")
    layout = Layout(folder)
    size = sum(path.stat().st_size for path in layout.vectors(_space(workshop)).rglob("*"))
    costs = {
        "count": count,
        "record_us": json.loads(recorded.read_text("utf-8")),
        "index_s": built.seconds,
        "scan_s": scanned.seconds,
        "index_peak_mb": built.peak_mb,
        "catalog_mb": layout.catalog.stat().st_size / 1e6,
        "vectors_mb": size / 1e6,
    }
    kept.write_text(json.dumps(costs))
    return costs


def measure_searches(workshop: Workshop, count: int, asked: int, k: int = 10) -> dict[str, float]:
    """Ask a library `asked` texts and as many pictures in one process: median ms of a search and of its nearest
    neighbours alone, and recall@k against an exhaustive search of the same 16-bit vectors."""
    return apart(_measure_searches, workshop, count, asked, k)


def _fill(workshop: Workshop, count: int) -> float:
    """Record the pictures in the catalog, in the transactions of `clipkit index`.

    Return the microseconds that a picture of the last tenth took: what a further one costs in a library of this size.
    """
    from clipkit import Library
    from clipkit.catalog.rows import Details, Embedding, NewImage

    os.environ.update(workshop.environment)
    root, details = workshop.files(count), Details(300, 200, "JPEG")
    texts, seconds, measured = workshop.texts(), 0.0, 0
    with Library.open_or_create(workshop.indexes / workshop.library(count), workshop.model) as library:
        catalog = library.catalog
        catalog.add_roots([root], [])
        pictures = _numbered(image_vectors(texts, count))
        while batch := list(islice(pictures, COMMITTED)):
            contents = [hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest() for number, _ in batch]
            images = [
                NewImage(empty_file(root, number), 0, WHEN, content, details)
                for (number, _), content in zip(batch, contents, strict=True)
            ]
            embeddings = [Embedding(content, vector) for (_, vector), content in zip(batch, contents, strict=True)]
            started = time.perf_counter()
            catalog.commit_batch(images, space=library.model, embeddings=embeddings)
            if batch[0][0] >= 0.9 * count:
                seconds, measured = seconds + time.perf_counter() - started, measured + len(batch)
    return seconds / measured * 1e6


def _numbered(chunks: Iterator[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    number = 0
    for chunk in chunks:
        for vector in chunk:
            yield number, vector
            number += 1


def _space(workshop: Workshop) -> str:
    from clipkit.models.reference import ModelRef

    return ModelRef.resolve(workshop.model).id


def _save_concepts(workshop: Workshop, path: Path) -> None:
    os.environ.update(workshop.environment)
    from clipkit.matching import concepts
    from clipkit.models.concepts import concept_vectors
    from clipkit.models.loading import load_encoder
    from clipkit.models.reference import ModelRef

    np.save(path, concept_vectors(load_encoder(ModelRef.resolve(workshop.model), search=True), concepts()))


def _measure_searches(workshop: Workshop, count: int, asked: int, k: int) -> dict[str, float]:
    os.environ.update(workshop.environment)
    from clipkit import Library
    from clipkit.matching import concepts
    from clipkit.vectors.unit import unit

    texts = queries(concepts(), asked, seed=1)
    bank = workshop.texts()
    found: dict[str, float] = {}
    with Library.open(workshop.indexes / workshop.library(count)) as library:
        times = []
        for text in texts:
            started = time.perf_counter()
            library.search(text, k=k)
            times.append((time.perf_counter() - started) * 1000)
        found["search_ms"] = float(np.median(times[1:] or times))
        searcher = library._searcher(library.model, "auto")
        pictures = next(image_vectors(bank, asked, first_chunk=1_000_000))  # none of the library's
        encoded = {"text": unit(searcher.encoder.encode_texts(texts)), "picture": pictures}
        best = exact_top(image_vectors(bank, count), np.concatenate(list(encoded.values())), k) + 1  # ids count from 1
        expected = dict(zip(encoded, (best[: len(texts)], best[len(texts) :]), strict=True))
        for kind, vectors in encoded.items():
            times, rows = [], []
            for vector in vectors:
                started = time.perf_counter()
                rows.append(searcher.vectors.search(vector[None], k)[1][0])
                times.append((time.perf_counter() - started) * 1000)
            pairs = zip(rows, expected[kind], strict=True)
            shared = [len(set(row) & set(wanted)) / len(wanted) for row, wanted in pairs]
            found |= {f"{kind}_nearest_ms": float(np.median(times)), f"{kind}_recall": float(np.mean(shared))}
    return found
