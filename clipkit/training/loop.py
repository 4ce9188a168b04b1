"""The training loop that sketch, decoder, prior, upsampler and judge share: seeded, resumable, with an EMA."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.training_utils import EMAModel
from torch import nn

Model = TypeVar("Model", bound=nn.Module)

SLOW = 0.4
"""What `slow` parameters of `fit` learn at, as a share of the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast. The learning rate warms up over `warmup` steps, stays, and falls to nothing over the
    last `decay` share of the steps: a run can be made longer as long as that has not begun. `ema`: the decay of the
    exponential moving average of the weights, which is what is evaluated and shipped; 0 for none.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    decay: float = 0.3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    ema: float = 0.999
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / min(self.warmup, max(1, self.steps // 4)), falling)


def generator(seed: int, step: int) -> torch.Generator:
    """What a step's batch and noise are drawn from: the same in a resumed run as in an undisturbed one."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def fit(
    model: Model,
    schedule: Schedule,
    loss_of: Callable[[Model, torch.Generator], torch.Tensor],
    checkpoint: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    evaluate: Callable[[Model], dict] | None = None,
    evaluate_every_s: float = 240,
    save_every_s: float = 60,
    stop_at: int | None = None,
    slow: Iterable[nn.Parameter] = (),
) -> Model:
    """Train `model`, or go on from `checkpoint`; return it in evaluation mode with the averaged weights.

    `loss_of(model, generator)` draws a batch and returns its loss, a scalar. `report` gets a dict a step: step, steps,
    loss, seconds (of all sessions together), and what `evaluate` returned when it ran. `stop_at` ends this session
    early, as a kill would, after saving. `slow` parameters learn at `SLOW` of the rate.
    """
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    model.to(device).to(memory_format=torch.channels_last)
    parameters = [p for p in model.parameters() if p.requires_grad]
    slower = {id(p) for p in slow}
    groups = [
        {"params": group, "factor": factor}
        for factor, group in (
            (1.0, [p for p in parameters if id(p) not in slower]),
            (SLOW, [p for p in parameters if id(p) in slower]),
        )
        if group
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=schedule.learning_rate, betas=schedule.betas, weight_decay=schedule.weight_decay, fused=True
    )
    average = EMAModel(parameters, decay=schedule.ema, use_ema_warmup=True, power=0.75) if schedule.ema else None
    step, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])
        step, seconds = state["step"], state["seconds"]

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
        if average is not None:
            state["average"] = average.state_dict()
        # Replaced whole, so that a kill leaves the old checkpoint or the new one.
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)

    model.train()
    saved = evaluated = time.monotonic()
    end = schedule.steps if stop_at is None else min(stop_at, schedule.steps)
    if step >= end:
        report({"step": step, "steps": schedule.steps, "loss": float("nan"), "seconds": round(seconds, 1)})
    while step < end:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step) * group["factor"]
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = loss_of(model, generator(schedule.seed, step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if average is not None:
            average.step(parameters)
        step += 1
        seconds += time.perf_counter() - started
        line = {"step": step, "steps": schedule.steps, "loss": loss.item(), "seconds": round(seconds, 1)}
        if evaluate is not None and time.monotonic() - evaluated > evaluate_every_s:
            with averaged(model, average):
                line |= evaluate(model)
            evaluated = time.monotonic()
        report(line)
        if time.monotonic() - saved > save_every_s or step == end:
            save()
            saved = time.monotonic()
    if average is not None:
        average.copy_to(parameters)
    return model.eval()


class averaged:
    """For the length of a `with`, the model is in evaluation mode and has the averaged weights."""

    def __init__(self, model: nn.Module, average: EMAModel | None) -> None:
        self.model, self.average = model, average
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        self.model.eval()
        if self.average is not None:
            self.average.store(self.parameters)
            self.average.copy_to(self.parameters)

    def __exit__(self, *_: object) -> None:
        if self.average is not None:
            self.average.restore(self.parameters)
        self.model.train()
