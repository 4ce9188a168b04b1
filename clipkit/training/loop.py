"""The training loop of sketch, decoder, prior, upsampler and judge: seeded, resumable, with an EMA of the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from clipkit.atomic import atomic_write

Model = TypeVar("Model", bound=nn.Module)

SLOW_FACTOR = 0.4
"""The learning rate of `slow_parameters` in `fit`, relative to that of all others."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The hyperparameters that all recipes share.

    The learning rate warms up over `warmup` steps, stays constant, and decays linearly to 0 over the last `decay` share
    of the steps: a run can be extended until the decay begins. `ema` is the decay of the exponential moving average of
    the weights, which is what is evaluated and shipped; 0 disables it.
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

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / min(self.warmup, max(1, self.steps // 4)), falling)


def generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of a step's batch and noise: the same in a resumed run as in an uninterrupted one."""
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
    slow_parameters: Iterable[nn.Parameter] = (),
) -> Model:
    """Train `model`, resuming from `checkpoint` if it exists; return it in evaluation mode with the averaged weights.

    `loss_of(model, generator)` samples a batch and returns its scalar loss.
    `report` is called after each step with a dict: step, steps, loss, seconds (over all sessions), and the result of
    `evaluate` when it ran.
    `stop_at` saves and ends the session after that many steps, as an interruption would.
    `slow_parameters` are trained at `SLOW_FACTOR` times the learning rate.
    """
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    model.to(device).to(memory_format=torch.channels_last)
    parameters = [p for p in model.parameters() if p.requires_grad]
    slow = {id(p) for p in slow_parameters}
    groups = [
        {"params": group, "factor": factor}
        for factor, group in (
            (1.0, [p for p in parameters if id(p) not in slow]),
            (SLOW_FACTOR, [p for p in parameters if id(p) in slow]),
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
        with atomic_write(checkpoint) as file:
            torch.save(state, file)

    model.train()
    saved = evaluated = time.monotonic()
    end = schedule.steps if stop_at is None else min(stop_at, schedule.steps)
    if step >= end:
        report({"step": step, "steps": schedule.steps, "loss": float("nan"), "seconds": round(seconds, 1)})
    while step < end:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at(step) * group["factor"]
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
            with averaged_weights(model, average):
                line |= evaluate(model)
            evaluated = time.monotonic()
        report(line)
        if time.monotonic() - saved > save_every_s or step == end:
            save()
            saved = time.monotonic()
    if average is not None:
        average.copy_to(parameters)
    return model.eval()


@contextmanager
def averaged_weights(model: nn.Module, average: EMAModel | None) -> Iterator[None]:
    """Put the model into evaluation mode with its averaged weights, and restore training afterwards."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    if average is not None:
        average.store(parameters)
        average.copy_to(parameters)
    try:
        yield
    finally:
        if average is not None:
            average.restore(parameters)
        model.train()
