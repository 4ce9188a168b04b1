"""The two towers of a space: pixels and words to vectors."""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from clipkit.errors import ClipkitError, ModelNotAvailable
from clipkit.images.preprocessing import Preprocessing
from clipkit.models.memory import Fitting, is_out_of_memory, way_out
from clipkit.models.text_tower import encode_tokens, looks_back_only, without_padding
from clipkit.progress import ProgressCallback

TEXTS = 256
"""Texts that go through the text tower at once."""


class Encoder(Protocol):
    """What indexing and searching need of a model. Vectors are not normalised: decoders want their norms."""

    space: str
    dimension: int
    preprocessing: Preprocessing
    concepts: tuple[str, ...]
    """A bank of concepts of the space's own, for the match decision; empty for spaces that know all words."""
    match: dict
    """The match decision's weights, as `clipkit.matching.Calibration.to_json`; empty for spaces of photographs."""
    note: str
    """One line for the user about how it computes, if there is anything to say."""

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3), as `preprocessing.pixels` makes them, to float32 (n, dimension)."""
        ...

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """n texts to float32 (n, dimension)."""
        ...

    def unknown_words(self, text: str) -> list[str]:
        """The words that the space was never taught, in order; empty for spaces with an open vocabulary."""
        ...


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; a zero row stays zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


class OpenClipEncoder:
    """An open_clip model, tokenizer and preprocessing of one space."""

    def __init__(
        self,
        space: str,
        model,
        tokenizer,
        preprocessing: Preprocessing,
        *,
        vocabulary: frozenset[str] = frozenset(),
        concepts: tuple[str, ...] = (),
        match: dict | None = None,
    ) -> None:
        self.space, self.preprocessing, self.concepts, self.match = space, preprocessing, concepts, match or {}
        self.model, self.tokenizer, self.vocabulary = model, tokenizer, vocabulary
        self.note = ""
        self._precisions: list = []
        self._fitting_images, self._fitting_texts = Fitting(), Fitting()
        self._text_lock = threading.Lock()
        self.move(next(model.parameters()).device)
        self.dimension = int(self.encode_texts(["a"]).shape[1])

    @property
    def device(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return self._device.type

    def move(self, device) -> None:
        """To another device of torch, with the precisions that are tried there for pictures, the fastest first."""
        import torch

        self._device = torch.device(device)
        self.model.to(self._device)
        # float16 has three bits more than bfloat16, so that vectors stay nearest to those of a CPU; what exceeds its
        # range, as some large models do, is computed in bfloat16, which has float32's range.
        fast = [torch.float16] if self.device in ("cuda", "mps") else []
        if self.device == "cuda" and torch.cuda.is_bf16_supported():
            fast.append(torch.bfloat16)
        if fast:
            self.model.visual.to(memory_format=torch.channels_last)
        self._precisions = [*fast, torch.float32]

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        with enough_memory(self.space, self.device):
            return self._fitting_images(self._encode_images, pixels)

    def _encode_images(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        batch = torch.from_numpy(self.preprocessing.normalise(pixels))
        if self.device == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        while True:
            precision = self._precisions[0]
            with torch.inference_mode(), torch.autocast(self.device, precision, precision != torch.float32):
                vectors = self.model.encode_image(batch).float().cpu().numpy()
            if len(self._precisions) == 1 or np.isfinite(vectors).all():
                return vectors
            self._precisions.pop(0)  # for good: a model that overflows once will again

    def tokens(self, texts: list[str]) -> np.ndarray:
        """Token ids, int64 (n, context length)."""
        return self.tokenizer(texts).numpy()

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), TEXTS):
            tokens = self.tokens(texts[start : start + TEXTS])
            if looks_back_only(self.model):
                tokens = without_padding(tokens)
            with self._text_lock, enough_memory(self.space, self.device):
                parts.append(self._fitting_texts(self._encode_tokens, tokens))
        return np.concatenate(parts)

    def _encode_tokens(self, tokens: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return encode_tokens(self.model, torch.from_numpy(tokens).to(self._device)).float().cpu().numpy()

    def unknown_words(self, text: str) -> list[str]:
        return words_outside(self.vocabulary, text)


@contextmanager
def enough_memory(space: str, device: str) -> Iterator[None]:
    """Says in one line, as ModelNotAvailable, that a model has no memory left on its device, and what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ClipkitError) or not is_out_of_memory(error):
            raise
        where = "this machine" if device == "cpu" else "the GPU"
        raise ModelNotAvailable(
            f"{where} has not enough memory left for {space}, not even for one picture or text at a time: "
            f"{way_out(device)}, or take a smaller model (`clipkit models list`)"
        ) from error


def words_outside(vocabulary: frozenset[str], text: str) -> list[str]:
    """The words of a text that are not in the vocabulary, in order, each once; none if the vocabulary is empty.

    Digits and symbols count as words only where a text has nothing else.
    """
    words = (re.findall(r"[^\W\d_]+", text.lower()) or text.split()) if vocabulary else []
    return list(dict.fromkeys(word for word in words if word not in vocabulary))


def load_encoder(
    space: str,
    device: str = "auto",
    *,
    search: bool = False,
    export: bool = True,
    progress: ProgressCallback | None = None,
) -> Encoder:
    """The encoder of a space: a name of the registry, an open_clip "NAME/TAG", or a checkpoint folder.

    `device`: auto, cpu, cuda or mps. On the CPU it computes in ONNX Runtime: always for `search`, which takes the CPU
    unless told otherwise, and else if that is faster on this machine than torch. A space that has no ONNX form yet is
    exported into the user's cache, once, if `export`. Encoders are kept and given again. Raises ModelNotAvailable if
    there is no such model here or to be had.
    """
    from clipkit.models import loading

    return loading.choose(space, device, search=search, export=export, progress=progress)


def forget_encoders() -> None:
    """Lets go of the encoders that are kept, and of their memory."""
    from clipkit.models import loading

    load_torch_encoder.cache_clear()
    loading.forget()


@lru_cache(maxsize=2)
def load_torch_encoder(space: str, device: str) -> OpenClipEncoder:
    """The encoder of a space in torch, on cpu, cuda or mps; raises as `load_encoder`."""
    from clipkit.models import checkpoint

    try:
        with enough_memory(space, device):
            return checkpoint.load(space, device)
    except ModelNotAvailable:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelNotAvailable(
            f"the model {space} cannot be loaded ({first_line}); "
            "name a folder with its open_clip_config.json and weights, or use --model tiny"
        ) from error


def choose_device(device: str) -> str:
    """Resolves "auto" to the fastest device of this machine; raises ModelNotAvailable for one that it lacks."""
    if device == "cpu" or (device == "auto" and not _gpu_is_possible()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there.get(device):
        raise ModelNotAvailable(f"this machine has no device {device!r}; use --device auto or cpu")
    return device


def _gpu_is_possible() -> bool:
    """Whether torch must be asked, which takes seconds to import; its GPUs need a driver, and Metal needs macOS."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        folder = Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32"
        return any(
            (folder / name).exists() for name in ("nvcuda.dll", "amdhip64.dll", "amdhip64_6.dll", "amdhip64_7.dll")
        )
    # NVIDIA, NVIDIA on a Jetson, Windows' subsystem for Linux, AMD
    return any(
        Path(name).exists() for name in ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")
    )
