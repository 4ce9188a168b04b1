"""Running out of memory: recognise it, report it, and compute in batches that fit."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from clipkit.errors import ClipkitError, ModelNotAvailable

_CGROUP = Path("/sys/fs/cgroup")
_OUT_OF_MEMORY_MESSAGES = (
    "out of memory",  # CUDA, HIP, Metal
    "_ALLOC_FAILED",  # cuBLAS and cuDNN, which have allocators of their own
    "Invalid buffer size",  # Metal, for a single tensor
    "DefaultCPUAllocator",
    "bad_alloc",
    "bad allocation",
    "Failed to allocate memory",  # ONNX Runtime
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from, means that a GPU or the machine ran out of memory.

    torch has an exception class for CUDA only and ONNX Runtime has none, so other errors are matched by message.
    """
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch and isinstance(error, torch.OutOfMemoryError):
        return True
    if isinstance(error, Exception) and any(message in str(error) for message in _OUT_OF_MEMORY_MESSAGES):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def memory_advice(device: str) -> str:
    """Return what a user can do to free memory on a device, as part of a sentence."""
    return "close other programs that use it" + ("" if device == "cpu" else ", use --device cpu")


@contextmanager
def translate_out_of_memory(model: str, device: str) -> Iterator[None]:
    """Raise an out-of-memory error of the body as a ModelNotAvailable of one line that says what to do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ClipkitError) or not is_out_of_memory(error):
            raise
        where = "this machine" if device == "cpu" else "the GPU"
        raise ModelNotAvailable(
            f"there is not enough memory on {where} for {model}, not even for one picture or text at a time: "
            f"{memory_advice(device)}, or choose a smaller model (`clipkit models list`)"
        ) from error


def free_memory() -> int:
    """Return the bytes of main memory that can still be allocated, within the limit of a container if there is one."""
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # other systems, and "max" for no limit
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        files = next(
            int(line.split()[1]) for line in (_CGROUP / "memory.stat").read_text().splitlines() if line[:5] == "file "
        )
        free = min(free, limit - used + files)  # the page cache is reclaimed on demand
    return max(0, free)


class AdaptiveBatches:
    """A batch computation that halves its batches until they fit into memory, and remembers the size that fitted.

    largest: size of the batches to begin with.

    Raises the error of the computation if a single item does not fit; see `is_out_of_memory`.
    """

    def __init__(self, largest: int | None = None) -> None:
        self.largest = largest or sys.maxsize

    def __call__(self, compute: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> np.ndarray:
        """Return `compute` of all rows of `batch`."""
        parts: list[np.ndarray] = []
        done = 0
        while done < len(batch) or not parts:
            part = batch[done : done + self.largest]
            try:
                parts.append(compute(part))
            except Exception as error:
                if len(part) <= 1 or not is_out_of_memory(error):
                    raise
                self.largest = len(part) // 2
            else:
                done += len(part)
                continue
            release_gpu_memory()  # outside the handler, where the error still holds the tensors computed so far
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def release_gpu_memory() -> None:
    """Return the memory that torch has cached to the GPU."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch and torch.backends.mps.is_available():
        torch.mps.empty_cache()
