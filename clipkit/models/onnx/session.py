"""A model that runs in ONNX Runtime on the CPU, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.cores import available_cores
from clipkit.errors import ModelNotAvailable, first_line
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.encoder import words_outside
from clipkit.models.memory import AdaptiveBatches, translate_out_of_memory
from clipkit.models.onnx.exports import Exported
from clipkit.models.text_tower import trim_padding
from clipkit.models.tokenizing import Tokenizer, tokenizer_from

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

ONNX_TEXT_BATCH = 64
"""Number of texts in a batch of the text tower."""
ONNX_IMAGE_BATCH = 8
"""Number of pictures in a batch of the image tower: more are no faster on a CPU, and the last batch is padded."""


class OnnxEncoder:
    """An `Encoder` that runs in ONNX Runtime.

    tokenizer, text, image: open the tokenizer and the towers, each on first use.

    The text tower maps "tokens" int64 (n, length), without padding if the graph accepts any length, and the image tower
    "pixels" float32 (n, 3, size, size), to float32 (n, dimension).
    """

    device = "cpu"
    note = ""
    image_batch: int | None = ONNX_IMAGE_BATCH

    def __init__(
        self,
        space: str,
        dimension: int,
        preprocessing: Preprocessing,
        *,
        tokenizer: Callable[[], Tokenizer],
        text: Callable[[], InferenceSession],
        image: Callable[[], InferenceSession],
        vocabulary: frozenset[str] = frozenset(),
        concepts: tuple[str, ...] = (),
        match: dict | None = None,
    ) -> None:
        self.space, self.dimension, self.preprocessing = space, dimension, preprocessing
        self.concepts, self.match, self._vocabulary = concepts, match or {}, vocabulary
        self._open_tokenizer, self._open_text, self._open_image = tokenizer, text, image
        self._image_batches = AdaptiveBatches(self.image_batch)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._open_tokenizer()

    @cached_property
    def _text(self) -> InferenceSession:
        return self._open_tower(self._open_text)

    @cached_property
    def _image(self) -> InferenceSession:
        return self._open_tower(self._open_image)

    def _open_tower(self, tower: Callable[[], InferenceSession]) -> InferenceSession:
        try:
            return tower()
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise ModelNotAvailable(
                f"the ONNX export of {self.space} cannot be used ({first_line(error)}); "
                f"run `clipkit models export {self.space}` to rebuild it"
            ) from error

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        with translate_out_of_memory(self.space, self.device):
            return self._image_batches(self._encode_images, pixels)

    def _encode_images(self, pixels: np.ndarray) -> np.ndarray:
        return self._image.run(None, {"pixels": self.preprocessing.normalise(pixels)})[0]

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        any_length = isinstance(self._text.get_inputs()[0].shape[1], str)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        if not texts:
            return vectors
        tokens = self._tokenizer(texts)
        # Texts of similar length share a batch, so that little padding is computed.
        order = np.argsort(np.count_nonzero(tokens, axis=1), kind="stable")
        for start in range(0, len(texts), ONNX_TEXT_BATCH):
            rows = order[start : start + ONNX_TEXT_BATCH]
            batch = trim_padding(tokens[rows]) if any_length else tokens[rows]
            vectors[rows] = self._text.run(None, {"tokens": batch})[0]
        return vectors

    def unknown_words(self, text: str) -> list[str]:
        return words_outside(self._vocabulary, text)

    def open(self, *, search: bool) -> None:
        """Open the text tower for a search, else the image tower. Raises ModelNotAvailable if it cannot be used."""
        _ = self._text if search else self._image


def exported_encoder(exported: Exported) -> OnnxEncoder:
    """Return the encoder of an export that was not refused."""
    facts, folder = exported.facts, exported.folder
    return OnnxEncoder(
        exported.space,
        facts["dimension"],
        exported.preprocessing,
        tokenizer=lambda: tokenizer_from(facts["tokenizer"], folder),
        text=lambda: open_session(folder / facts["text"], text_options()),
        image=lambda: open_session(folder / facts["image"], image_options()),
        vocabulary=frozenset(facts["vocabulary"]),
        concepts=tuple(facts["concepts"]),
        match=facts["match"],
    )


def open_session(graph: Path | bytes, options: SessionOptions) -> InferenceSession:
    """Open a graph on the CPU; weights in a file beside it are memory-mapped."""
    from onnxruntime import InferenceSession, disable_telemetry_events

    # An environment variable disables telemetry (see `clipkit.telemetry`), but not if ONNX Runtime was imported before
    # clipkit, nor in builds for Windows that log to the system's event tracing.
    disable_telemetry_events()
    source = graph if isinstance(graph, bytes) else str(graph)
    return InferenceSession(source, options, providers=["CPUExecutionProvider"])


def text_options() -> SessionOptions:
    """Return options for single short texts, where a fast start matters more than throughput.

    Prepacking the weights would copy all of them first, 150 MB in ViT-B-32.
    """
    options = image_options()
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    return options


def image_options() -> SessionOptions:
    """Return options for batches of images."""
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised anyway
    options.intra_op_num_threads = thread_count()
    # Idle threads must not spin: the image decoding processes need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def thread_count() -> int:
    """Return the number of threads to compute with: $OMP_NUM_THREADS, as in torch, or one per available core."""
    requested = os.environ.get("OMP_NUM_THREADS", "")
    return int(requested) if requested.isdigit() and int(requested) > 0 else available_cores()
