"""Kandinsky's prior uses CPU offload whenever its decoder does."""

from __future__ import annotations

import json
import shutil

import pytest

from clipkit.generation import placement, registry


@pytest.mark.parametrize(("free", "offloaded"), [(8.0, True), (20.0, False)])
def test_the_prior_is_offloaded_if_its_decoder_is(kandinsky, tmp_path, monkeypatch, free, offloaded):
    """10 GB are needed, 4 of them by the prior, which alone would fit into 8 GB."""
    pytest.importorskip("accelerate")
    from clipkit.generation.loading import load_conditioner, load_decoder
    from clipkit.generation.synthesis import Condition, generate_images, resolve_settings

    folder = tmp_path / "large"
    shutil.copytree(kandinsky, folder)
    facts = json.loads((folder / "clipkit.json").read_text())
    (folder / "clipkit.json").write_text(json.dumps(facts | {"memory_gb": 10}))
    monkeypatch.setattr(placement, "free_gpu_memory", lambda device: free)
    entry = registry.resolve_decoder(str(folder))
    for load in (load_decoder, load_conditioner):
        load.cache_clear()
    settings = resolve_settings(entry, seed=1, steps=1, guidance=None, size=None)
    list(generate_images(entry, [Condition("a dog", 1.0)], settings, 1, device="cpu"))
    decoder, conditioner = load_decoder(entry, "cpu"), load_conditioner(entry, "cpu")
    # accelerate adds a hook to every model that it offloads.
    hooked = [hasattr(model, "_hf_hook") for model in (decoder.pipeline.unet, conditioner.pipeline.prior)]
    assert hooked == [offloaded, offloaded]
    for load in (load_decoder, load_conditioner):
        load.cache_clear()
