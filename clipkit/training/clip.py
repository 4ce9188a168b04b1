"""Train the CLIP of the bundled space: open_clip's own `CLIP` and `ClipLoss` on painted scenes with captions.

The whole recipe is this file: configuration, batches, the loop, the evaluation, and what is written. Every batch is
made from the seed and the step's number, so a run that was killed and resumed sees what an undisturbed one sees.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from open_clip import ClipLoss, SimpleTokenizer
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file

from clipkit.samples.painting import paint
from clipkit.samples.world import Scene, caption, concepts, scenes, twin, vocabulary

UNKNOWN_TOKEN = 1
"""All tokens outside the world's vocabulary share this row, which is trained to say "some word I do not know"."""

MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Part:
    """So many steps from this learning rate down; `twins`: the share of scenes with sides that come with their twin."""

    steps: int
    learning_rate: float
    twins: float


@dataclass(frozen=True)
class ClipRecipe:
    """The hyperparameters. `steps` x `batch` painted scenes are seen, none of them twice.

    Contents are learned first. What is left and what right is then learned in a part of its own, since it is learned
    only from pictures that differ in nothing else; it costs some of the contents. Averaging the weights at the end of
    both parts keeps nearly all of each (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022);
    `last_share` is what the last part counts.
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
        """Steps of all parts together."""
        return sum(part.steps for part in self.parts)

    def part_of(self, step: int) -> tuple[Part, int]:
        """The part that a step belongs to, and its number within that part."""
        for part in self.parts:
            if step < part.steps:
                return part, step
            step -= part.steps
        raise IndexError("there is no such step")

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
    """An untrained stock open_clip model."""
    torch.manual_seed(recipe.seed)
    config = recipe.model_config
    return CLIP(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]))


def known_tokens(tokenizer: SimpleTokenizer) -> np.ndarray:
    """Ids (sorted, int64) of the tokens that the world's words are made of, with start and end of text."""
    ids = {t for word in vocabulary() for t in tokenizer.encode(word)} | set(tokenizer.encode(","))
    return np.array(sorted(ids | {tokenizer.sot_token_id, tokenizer.eot_token_id}))


class Captions:
    """Token batches in which every token outside the vocabulary is `UNKNOWN_TOKEN`."""

    def __init__(self, recipe: ClipRecipe) -> None:
        self.tokenizer = SimpleTokenizer(context_length=recipe.context_length)
        self.known = known_tokens(self.tokenizer)
        self.recipe = recipe

    def tokens(self, captions: list[str]) -> torch.Tensor:
        """Token ids, int64 (n, context length)."""
        ids = self.tokenizer(captions)
        padding = ids == 0
        known = torch.isin(ids, torch.from_numpy(self.known))
        return torch.where(known | padding, ids, UNKNOWN_TOKEN).where(~padding, 0)

    def with_unknown_words(self, tokens: torch.Tensor, rng: random.Random) -> torch.Tensor:
        """Puts an unknown word before, or in place of, a random word of some captions."""
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


def pixels(batch: list[Scene], size: int) -> torch.Tensor:
    """Painted scenes, float32 (n, 3, size, size), normalised as the model wants them."""
    array = np.stack([np.asarray(paint(scene, size)) for scene in batch])
    x = torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255
    return (x - 0.5) / 0.5


def training_batch(recipe: ClipRecipe, captions: Captions, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of a step: the same for the same recipe and step."""
    rng = random.Random(f"clip {recipe.seed} {step}")
    batch: list[Scene] = []
    texts: list[str] = []
    twins = recipe.part_of(step)[0].twins
    for scene in islice(scenes(rng.getrandbits(62)), recipe.batch):
        pair = [scene, twin(scene, rng)] if scene.relation and rng.random() < twins else [scene]
        batch += pair
        texts += [caption(s, rng, complete=False, place=len(pair) == 2) for s in pair]
    batch, tokens = batch[: recipe.batch], captions.tokens(texts[: recipe.batch])
    return pixels(batch, recipe.image_size), captions.with_unknown_words(tokens, rng)


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
    """Trains, or goes on from the checkpoint in `work`; returns the model in evaluation mode.

    `report` gets a dict for each step: step, steps, loss, seconds (of all sessions together), and scores now and then.
    `compiled` compiles both towers first: a minute or more at the start, a fifth less for every step.
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
    captions, loss_of = Captions(recipe), ClipLoss()
    if compiled:
        model.visual.compile()
        model.transformer.compile()
    model.train()
    while step < recipe.steps:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        images, tokens = training_batch(recipe, captions, step)
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
        model.load_state_dict(average(first, model.state_dict(), recipe.last_share))
    return model.eval()


def average(first: dict[str, torch.Tensor], last: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Two models' weights, and batch statistics, averaged; `share` is what the last counts, counters are its own."""
    return {k: first[k].lerp(v, share) if v.is_floating_point() else v for k, v in last.items()}


def _save(state: dict, path: Path) -> None:
    """Replaces the file whole, so that a kill leaves the old checkpoint or the new one."""
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def learning_rate(recipe: ClipRecipe, step: int) -> float:
    """In every part a linear warm-up, then half a cosine down to nothing."""
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
    """Text-to-image retrieval among `count` scenes that training never painted.

    A picture is right for a caption if it shows the same things in the same setting; placement does not count.
    Returns recall@1 and recall@10.
    """
    model.eval()
    captions, rng = Captions(recipe), random.Random(seed)
    sample = list(islice(scenes(10_000_019 * (seed + 1), held_out=held_out), count))
    texts = [caption(scene, rng) for scene in sample]
    image = torch.cat(
        [
            model.encode_image(pixels(sample[i : i + 100], recipe.image_size).to(device), normalize=True)
            for i in range(0, count, 100)
        ]
    )
    text = model.encode_text(captions.tokens(texts).to(device), normalize=True)
    best = (text @ image.T).topk(10).indices.tolist()
    hits = [[sample[j].content == scene.content for j in row] for scene, row in zip(sample, best, strict=True)]
    return {"recall@1": float(np.mean([h[0] for h in hits])), "recall@10": float(np.mean([any(h) for h in hits]))}


@torch.inference_mode()
def placement_accuracy(model: CLIP, recipe: ClipRecipe, *, count: int, seed: int, device: str = "cpu") -> float:
    """How often a scene of two things side by side is nearer to its caption than to that with the sides swapped."""
    model.eval()
    captions = Captions(recipe)
    pairs = (s for s in scenes(10_000_019 * (seed + 1)) if len(s.placed) == 2 and s.relation in ("left", "right"))
    sample = list(islice(pairs, count))
    image = model.encode_image(pixels(sample, recipe.image_size).to(device), normalize=True)
    scores = []
    for swapped in (False, True):
        texts = []
        for scene in sample:
            first, second = (p.thing.name for p in scene.placed)
            side = {"left": "right", "right": "left"}[scene.relation] if swapped else scene.relation
            texts.append(f"{first} to the {side} of {second} {scene.setting.phrases[0]}")
        text = model.encode_text(captions.tokens(texts).to(device), normalize=True)
        scores.append((image * text).sum(1))
    return float((scores[0] > scores[1]).float().mean())


def export(model: CLIP, recipe: ClipRecipe, folder: Path) -> int:
    """Writes `open_clip_config.json` and `open_clip_model.safetensors` (fp16); returns the number of token rows.

    Of the token table only the trained rows are written, with their ids and the row of all unknown tokens;
    `clipkit.models.checkpoint` spreads them over the full table when it loads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    table = state.pop("token_embedding.weight")
    known = torch.from_numpy(known_tokens(SimpleTokenizer()))
    state["token_embedding.ids"] = known.to(torch.int32)
    state["token_embedding.rows"] = table[known]
    state["token_embedding.unknown"] = table[UNKNOWN_TOKEN]
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    config = {
        "model_cfg": recipe.model_config,
        "preprocess_cfg": {
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
        "clipkit": {"vocabulary": sorted(vocabulary()), "concepts": concepts(), "recipe": asdict(recipe)},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return len(known)


def add_to_config(folder: Path, **fields: object) -> None:
    """Adds to what an exported `open_clip_config.json` says of clipkit's own."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["clipkit"].update(fields)
    path.write_text(json.dumps(config, indent=1) + "\n")
