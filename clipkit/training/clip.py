"""Train the CLIP of the bundled model: open_clip's `CLIP` and `ClipLoss` on painted scenes with captions.

This file is the whole recipe: configuration, batches, training loop and evaluation. Each batch is determined by the
seed and the step, so an interrupted and resumed run sees the same batches as an uninterrupted one.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from open_clip import ClipLoss, SimpleTokenizer
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

from clipkit.atomic import atomic_write
from clipkit.samples.captions import caption, vocabulary
from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, scenes, twin

UNKNOWN_TOKEN = 1
"""The row shared by all tokens outside the vocabulary, trained to mean "an unknown word"."""


@dataclass(frozen=True)
class Part:
    """One learning-rate cycle of the training.

    `twins` is the share of scenes with a left-right or above-below relation whose twin, with the sides swapped, is in
    the same batch as a hard negative.
    """

    steps: int
    learning_rate: float
    twins: float


@dataclass(frozen=True)
class ClipRecipe:
    """The hyperparameters. `steps` x `batch` scenes are painted, each seen once.

    The first part teaches content. Placement is learned only from pairs that differ in nothing else, so the second part
    teaches it with twins, at some cost in content. Averaging the weights at the end of both parts keeps nearly all of
    each (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022); `last_share` is the weight of the last.
    """

    parts: tuple[Part, ...] = (Part(1400, 1e-3, 0.15), Part(400, 4e-4, 1.0))
    last_share: float = 0.7
    batch: int = 256
    warmup: int = 100
    weight_decay: float = 0.1
    unknown_word: float = 0.15
    embed_dim: int = 256
    image_size: int = 64
    vision_layers: tuple[int, ...] = (1, 1, 1, 1)
    vision_width: int = 32
    text_width: int = 192
    text_layers: int = 3
    context_length: int = 24
    seed: int = 0

    @property
    def steps(self) -> int:
        """The total number of steps."""
        return sum(part.steps for part in self.parts)

    def part_of(self, step: int) -> tuple[Part, int]:
        """Return the part that a step belongs to, and its number within that part."""
        for part in self.parts:
            if step < part.steps:
                return part, step
            step -= part.steps
        raise IndexError("step is out of range")

    @property
    def model_config(self) -> dict:
        """The `model_cfg` of an `open_clip_config.json`."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": {
                "image_size": self.image_size,
                "layers": list(self.vision_layers),
                "width": self.vision_width,
            },
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": SimpleTokenizer().vocab_size,
                "width": self.text_width,
                "heads": self.text_width // 64,
                "layers": self.text_layers,
            },
        }


def build(recipe: ClipRecipe) -> CLIP:
    """Return an untrained stock open_clip model."""
    torch.manual_seed(recipe.seed)
    config = recipe.model_config
    return CLIP(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]))


def known_tokens(tokenizer: SimpleTokenizer) -> np.ndarray:
    """Return the sorted ids, int64, of the vocabulary's tokens and of start and end of text."""
    ids = {t for word in vocabulary() for t in tokenizer.encode(word)} | set(tokenizer.encode(","))
    return np.array(sorted(ids | {tokenizer.sot_token_id, tokenizer.eot_token_id}))


class CaptionTokenizer:
    """Tokenises captions, replacing every token outside the vocabulary by `UNKNOWN_TOKEN`."""

    def __init__(self, recipe: ClipRecipe) -> None:
        self.tokenizer = SimpleTokenizer(context_length=recipe.context_length)
        self.known = known_tokens(self.tokenizer)
        self.recipe = recipe

    def encode(self, captions: list[str]) -> torch.Tensor:
        """Return token ids, int64 (n, context length)."""
        ids = self.tokenizer(captions)
        padding = ids == 0
        known = torch.isin(ids, torch.from_numpy(self.known))
        return torch.where(known | padding, ids, UNKNOWN_TOKEN).where(~padding, 0)

    def insert_unknown_words(self, tokens: torch.Tensor, rng: random.Random) -> torch.Tensor:
        """Insert an unknown word into some captions, before or in place of a random word."""
        tokens = tokens.clone()
        for row in tokens:
            if rng.random() >= self.recipe.unknown_word:
                continue
            end = int(row.argmax())
            at = rng.randrange(1, end)
            if rng.random() < 0.6 and end + 1 < len(row):
                row[at + 1 : end + 2] = row[at : end + 1].clone()
            row[at] = UNKNOWN_TOKEN
        return tokens


def paint_batch(batch: list[Scene], size: int) -> torch.Tensor:
    """Render scenes as float32 (n, 3, size, size), normalised for the model."""
    array = np.stack([np.asarray(paint(scene, size)) for scene in batch])
    x = torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255
    return (x - 0.5) / 0.5


def training_batch(recipe: ClipRecipe, tokenizer: CaptionTokenizer, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and tokens of a step, determined by the recipe and the step."""
    rng = random.Random(f"clip {recipe.seed} {step}")
    batch: list[Scene] = []
    texts: list[str] = []
    twins = recipe.part_of(step)[0].twins
    for scene in islice(scenes(rng.getrandbits(62)), recipe.batch):
        pair = [scene, twin(scene, rng)] if scene.relation and rng.random() < twins else [scene]
        batch += pair
        texts += [caption(s, rng, complete=False, place=len(pair) == 2) for s in pair]
    batch, tokens = batch[: recipe.batch], tokenizer.encode(texts[: recipe.batch])
    return paint_batch(batch, recipe.image_size), tokenizer.insert_unknown_words(tokens, rng)


def train(
    recipe: ClipRecipe,
    work: Path,
    *,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda line: None,
    save_every: int = 50,
    evaluate_every: int = 200,
    compiled: bool = False,
) -> CLIP:
    """Train, resuming from the checkpoint in `work` if it exists; return the model in evaluation mode.

    `report` is called after each step with a dict: step, steps, loss, seconds (over all sessions), and evaluation
    scores every `evaluate_every` steps.
    `compiled` compiles both towers first: a minute or more of start-up for steps that take a fifth less.
    """
    work.mkdir(parents=True, exist_ok=True)
    model = build(recipe).to(device, memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    checkpoint, step, seconds = work / "clip.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
    tokenizer, loss_of = CaptionTokenizer(recipe), ClipLoss()
    if compiled:
        model.visual.compile()
        model.transformer.compile()
    model.train()
    while step < recipe.steps:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        images, tokens = training_batch(recipe, tokenizer, step)
        images = images.to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            image = model.encode_image(images, normalize=True)
            text = model.encode_text(tokens.to(device), normalize=True)
            loss = loss_of(image, text, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        step += 1
        seconds += time.perf_counter() - started
        line = {"step": step, "steps": recipe.steps, "loss": loss.item(), "seconds": round(seconds, 1)}
        if step % evaluate_every == 0:
            line |= evaluate(model, recipe, count=500, seed=7, held_out=False, device=device)
            line["placement"] = placement_accuracy(model, recipe, count=200, seed=7, device=device)
            model.train()
        report(line)
        if step % save_every == 0 or step == recipe.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
            _save(state, checkpoint)
        if step == recipe.parts[0].steps:
            _save(model.state_dict(), work / "first-part.pt")
    if len(recipe.parts) > 1:
        first = torch.load(work / "first-part.pt", map_location=device, weights_only=True)
        model.load_state_dict(average_weights(first, model.state_dict(), recipe.last_share))
    return model.eval()


def average_weights(
    first: dict[str, torch.Tensor], last: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Average the weights and batch statistics of two models; `share` is the weight of the last.

    Counters are taken from the last.
    """
    return {k: first[k].lerp(v, share) if v.is_floating_point() else v for k, v in last.items()}


def _save(state: dict, path: Path) -> None:
    with atomic_write(path) as file:
        torch.save(state, file)


def learning_rate(recipe: ClipRecipe, step: int) -> float:
    """Return the learning rate of a step: in each part a linear warm-up, then half a cosine down to 0."""
    part, step = recipe.part_of(step)
    warmup = min(recipe.warmup, part.steps // 4)
    if step < warmup:
        return part.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, part.steps - warmup)
    return part.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.inference_mode()
def evaluate(
    model: CLIP, recipe: ClipRecipe, *, count: int, seed: int, held_out: bool, device: str = "cpu"
) -> dict[str, float]:
    """Return recall@1 and recall@10 of text-to-image retrieval among `count` scenes unseen in training.

    An image is relevant to a caption if it shows the same things in the same setting; placement does not count.
    """
    model.eval()
    tokenizer, rng = CaptionTokenizer(recipe), random.Random(seed)
    sample = list(islice(scenes(10_000_019 * (seed + 1), held_out=held_out), count))
    texts = [caption(scene, rng) for scene in sample]
    image = torch.cat(
        [
            model.encode_image(paint_batch(sample[i : i + 100], recipe.image_size).to(device), normalize=True)
            for i in range(0, count, 100)
        ]
    )
    text = model.encode_text(tokenizer.encode(texts).to(device), normalize=True)
    best = (text @ image.T).topk(10).indices.tolist()
    hits = [[sample[j].content == scene.content for j in row] for scene, row in zip(sample, best, strict=True)]
    return {"recall@1": float(np.mean([h[0] for h in hits])), "recall@10": float(np.mean([any(h) for h in hits]))}


@torch.inference_mode()
def placement_accuracy(model: CLIP, recipe: ClipRecipe, *, count: int, seed: int, device: str = "cpu") -> float:
    """Return the share of scenes of two things side by side that prefer their caption to the one with sides swapped."""
    model.eval()
    tokenizer = CaptionTokenizer(recipe)
    pairs = (s for s in scenes(10_000_019 * (seed + 1)) if len(s.placed) == 2 and s.relation in ("left", "right"))
    sample = list(islice(pairs, count))
    image = model.encode_image(paint_batch(sample, recipe.image_size).to(device), normalize=True)
    scores = []
    for swapped in (False, True):
        texts = []
        for scene in sample:
            first, second = (p.thing.name for p in scene.placed)
            side = {"left": "right", "right": "left"}[scene.relation] if swapped else scene.relation
            texts.append(f"{first} to the {side} of {second} {scene.setting.phrases[0]}")
        text = model.encode_text(tokenizer.encode(texts).to(device), normalize=True)
        scores.append((image * text).sum(1))
    return float((scores[0] > scores[1]).float().mean())
