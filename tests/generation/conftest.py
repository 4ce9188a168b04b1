"""Decoders with random weights, of the families besides Kandinsky 2.2."""

from __future__ import annotations

from pathlib import Path

import pytest


def _folder(factory: pytest.TempPathFactory, name: str) -> Path:
    folder = factory.mktemp("decoders") / name
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def adapter_15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IP-Adapter on Stable Diffusion 1.5."""
    from stable_diffusion_checkpoints import write_ip_adapter

    folder = _folder(tmp_path_factory, "adapter-15")
    write_ip_adapter(folder, xl=False)
    return folder


@pytest.fixture(scope="session")
def adapter_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IP-Adapter on Stable Diffusion XL."""
    from stable_diffusion_checkpoints import write_ip_adapter

    folder = _folder(tmp_path_factory, "adapter-xl")
    write_ip_adapter(folder, xl=True)
    return folder


@pytest.fixture(scope="session")
def kandinsky_inpaint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kandinsky 2.2's inpainting checkpoint."""
    from kandinsky_checkpoint import write_checkpoint

    folder = _folder(tmp_path_factory, "kandinsky-inpaint")
    write_checkpoint(folder, inpainting=True)
    return folder


@pytest.fixture(scope="session")
def adapter_15_inpaint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IP-Adapter on the inpainting checkpoint of Stable Diffusion 1.5."""
    from stable_diffusion_checkpoints import write_ip_adapter

    folder = _folder(tmp_path_factory, "adapter-15-inpaint")
    write_ip_adapter(folder, xl=False, inpainting=True)
    return folder


@pytest.fixture(scope="session")
def adapter_xl_inpaint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IP-Adapter on the inpainting checkpoint of Stable Diffusion XL."""
    from stable_diffusion_checkpoints import write_ip_adapter

    folder = _folder(tmp_path_factory, "adapter-xl-inpaint")
    write_ip_adapter(folder, xl=True, inpainting=True)
    return folder


@pytest.fixture(scope="session")
def unclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable unCLIP."""
    from stable_diffusion_checkpoints import write_stable_unclip

    folder = _folder(tmp_path_factory, "unclip")
    write_stable_unclip(folder)
    return folder
