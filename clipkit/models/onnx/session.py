"""A space in ONNX Runtime: the two towers without torch, for searching and for indexing on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.errors import ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.encoder import enough_memory, words_outside
from clipkit.models.memory import Fitting
from clipkit.models.onnx.exports import Exported
from clipkit.models.text_tower import without_padding
from clipkit.models.tokenizing import Tokenizer, tokenizer_from

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

TEXTS = 64
"""Texts that go through the text tower at once."""


class OnnxEncoder:
    """The `Encoder` of a space in ONNX Runtime.

    `text` and `image` open the towers, each when it is first used: "tokens" int64 (n, length), where the graph takes
    any length without the padding, or "pixels" float32
    (n, 3, size, size) to float32 (n, dimension).
    """

    device = "cpu"
    note = ""

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
        self._fitting_images = Fitting()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._open_tokenizer()

    @cached_property
    def _text(self) -> InferenceSession:
        return self._opened(self._open_text)

    @cached_property
    def _image(self) -> InferenceSession:
        return self._opened(self._open_image)

    def _opened(self, tower: Callable[[], InferenceSession]) -> InferenceSession:
        try:
            return tower()
        except Exception as error:  # ONNX Runtime's own errors share no base class of their own
            raise ModelNotAvailable(
                f"the ONNX form of {self.space} cannot be used ({_first_line(error)}); "
                f"`clipkit models export {self.space}` makes it anew"
            ) from error

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        with enough_memory(self.space, self.device):
            return self._fitting_images(self._encode_images, pixels)

    def _encode_images(self, pixels: np.ndarray) -> np.ndarray:
        return self._image.run(None, {"pixels": self.preprocessing.normalise(pixels)})[0]

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        any_length = isinstance(self._text.get_inputs()[0].shape[1], str)
        parts = []
        for start in range(0, len(texts), TEXTS):
            tokens = self._tokenizer(texts[start : start + TEXTS])
            parts.append(self._text.run(None, {"tokens": without_padding(tokens) if any_length else tokens})[0])
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)

    def unknown_words(self, text: str) -> list[str]:
        return words_outside(self._vocabulary, text)

    def open(self, *, search: bool) -> None:
        """Opens the tower that is used first; raises ModelNotAvailable if it cannot be used."""
        _ = self._text if search else self._image


def exported_encoder(exported: Exported) -> OnnxEncoder:
    """The encoder of an export that was not refused."""
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
    """A graph on the CPU; weights that lie in files beside it are mapped into memory, not read."""
    from onnxruntime import InferenceSession, disable_telemetry_events

    # The environment switches it off (see `clipkit.telemetry`), but not where a program imported ONNX Runtime before
    # clipkit, nor in the builds for Windows that log to the system's own tracing.
    disable_telemetry_events()
    source = graph if isinstance(graph, bytes) else str(graph)
    return InferenceSession(source, options, providers=["CPUExecutionProvider"])


def text_options() -> SessionOptions:
    """For one short text now and then: to start at once counts for more than the last bit of speed.

    Packing the weights for faster products would copy all of them first, 150 MB in ViT-B-32.
    """
    options = image_options()
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    return options


def image_options() -> SessionOptions:
    """For batches of pictures."""
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3  # errors are raised as well
    options.intra_op_num_threads = threads()
    # Idle threads sleep: the processes that decode pictures need the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def threads() -> int:
    """How many threads to compute with: $OMP_NUM_THREADS, as torch takes it, or the cores that are ours."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
