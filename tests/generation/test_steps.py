"""Progress counts the requested steps, however many time steps a scheduler has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipkit.generation.decoder import step_counter

SCHEDULERS = ("PNDMScheduler", "HeunDiscreteScheduler", "EulerDiscreteScheduler")


@given(steps=st.integers(1, 60), name=st.sampled_from((*SCHEDULERS, "DDIMScheduler", "UniPCMultistepScheduler")))
@settings(deadline=None)
def test_progress_counts_from_1_to_n_with_every_scheduler(steps, name):
    import diffusers

    scheduler = getattr(diffusers, name)(**({"skip_prk_steps": True} if name == "PNDMScheduler" else {}))
    scheduler.set_timesteps(steps)
    seen: list[int] = []
    count = step_counter(seen.append, steps, scheduler)
    for _ in scheduler.timesteps:
        count()
    assert seen == list(range(1, steps + 1)), f"{len(scheduler.timesteps)} calls"


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("family", ["adapter_15", "unclip"])
def test_pipelines_report_their_steps_with_other_schedulers(request, tmp_path: Path, family, name):
    """Stable Diffusion 1.5 is published with PNDM."""
    from clipkit import Query
    from clipkit.generation.generate import generate

    decoder = tmp_path / "decoder"
    shutil.copytree(request.getfixturevalue(family), decoder)
    index = json.loads((decoder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", name]
    (decoder / "model_index.json").write_text(json.dumps(index))
    config = {"_class_name": name, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    (decoder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, "skip_prk_steps": True}))
    seen = []
    generate(Query(text="a dog"), decoder=str(decoder), steps=3, output=tmp_path / "a.png", progress=seen.append)
    assert [(p.done, p.total) for p in seen if p.stage == "generating the picture"] == [(1, 3), (2, 3), (3, 3)]
