"""`scripts/train_bundled.py all --quick` runs every stage, and its models generate pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from clipkit.generation import registry
from clipkit.generation.synthesis import Condition, generate_images, resolve_settings
from clipkit.models.loading import load_encoder

ROOT = Path(__file__).resolve().parents[2]


def test_every_stage_of_a_quick_run(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "train_bundled.py"), "all", "--quick"]
    places = ["--work", tmp_path / "work", "--output", tmp_path / "model", "--judge", tmp_path / "judge.safetensors"]
    done = subprocess.run(
        [*command, *map(str, places)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("clip", "judge", "sketch", "decoder", "prior", "upsampler"):
        assert f"== {stage}\n" in done.stdout
    card = (tmp_path / "model" / "README.md").read_text()
    for heading in ("## CLIP", "## Decoder", "## Prior"):
        assert heading in card
    clip, folder = tmp_path / "model" / "clip", tmp_path / "model" / "decoder"
    assert "recall@1" in done.stdout and "| held-out combinations | 100 |" in card
    assert json.loads((clip / "scores.json").read_text())["retrieval"]["seen combinations"]["scenes"] == 100
    encoder = load_encoder(str(clip), "cpu")
    assert np.isfinite(encoder.encode_texts(["a dog on the beach"])).all()
    assert len(encoder.concepts) == 112 and encoder.unknown_words("a zither") == ["zither"]
    config = folder / "clipkit.json"
    config.write_text(config.read_text().replace('"tiny"', f'"{clip}"'))
    entry = registry.resolve_decoder(str(folder))
    chosen = resolve_settings(entry, seed=1, steps=3, guidance=None, size=None)
    ((image, _),) = generate_images(entry, [Condition("a dog on the beach", 1.0)], chosen, 1, device="cpu")
    assert image.size == (256, 256) and np.asarray(image).std() > 1
