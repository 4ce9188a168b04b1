"""Kandinsky's prior takes turns on the GPU whenever its decoder does."""

from __future__ import annotations

import json
import shutil

import pytest

from clipkit.generation import placement, registry


@pytest.mark.parametrize(("free", "turns"), [(8.0, True), (20.0, False)])
def test_the_prior_goes_where_its_decoder_goes(kandinsky, tmp_path, monkeypatch, free, turns):
    """10 GB are wanted, 4 of them by the prior, which would fit into 8 alone, while the decoder's parts are away."""
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
    first = resolve_settings(entry, seed=1, steps=1, guidance=None, size=None)
    list(generate_images(entry, [Condition("a dog", 1.0)], first, 1, device="cpu"))
    decoder, conditions = load_decoder(entry, "cpu"), load_conditioner(entry, "cpu")
    # accelerate hangs a hook on every model that it moves
    hooked = [hasattr(model, "_hf_hook") for model in (decoder.pipeline.unet, conditions.pipeline.prior)]
    assert hooked == [turns, turns]
    for load in (load_decoder, load_conditioner):
        load.cache_clear()
