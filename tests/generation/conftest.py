"""Decoders with random weights, of the families besides Kandinsky 2.2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kandinsky_checkpoint import write_checkpoint
from stable_diffusion_checkpoints import write_ip_adapter, write_stable_unclip


def _decoder(name: str, write: Callable[[Path], None], what: str) -> Any:
    """Return a fixture of this name: the folder of a decoder, written once by `write`."""

    @pytest.fixture(scope="session", name=name)
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("decoders") / name.replace("_", "-")
        path.mkdir()
        write(path)
        return path

    folder.__doc__ = what
    return folder


adapter_15 = _decoder("adapter_15", partial(write_ip_adapter, xl=False), "IP-Adapter on Stable Diffusion 1.5.")
adapter_xl = _decoder("adapter_xl", partial(write_ip_adapter, xl=True), "IP-Adapter on Stable Diffusion XL.")
kandinsky_inpaint = _decoder(
    "kandinsky_inpaint", partial(write_checkpoint, inpainting=True), "Kandinsky 2.2's inpainting checkpoint."
)
adapter_15_inpaint = _decoder(
    "adapter_15_inpaint",
    partial(write_ip_adapter, xl=False, inpainting=True),
    "IP-Adapter on the inpainting checkpoint of Stable Diffusion 1.5.",
)
adapter_xl_inpaint = _decoder(
    "adapter_xl_inpaint",
    partial(write_ip_adapter, xl=True, inpainting=True),
    "IP-Adapter on the inpainting checkpoint of Stable Diffusion XL.",
)
unclip = _decoder("unclip", write_stable_unclip, "Stable unCLIP.")
