"""The tables of the benchmarks: on the terminal, and as docs/benchmarks.md with its plots."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from benchmark_plots import write_plots
from benchmark_rows import ROWS

HEAD = """\
# Benchmarks

`scripts/benchmark.py` measures clipkit and writes this page. To repeat it on your machine:

```
python -m pip install 'clipkit[dev]'
python scripts/benchmark.py peers --docs docs      # clipkit beside rclip
python scripts/benchmark.py growth --docs docs     # larger and larger libraries
```

The first run prepares its libraries in the folder `benchmark-work`; every run is kept as JSON in `benchmark-runs`.
"""

PEERS = """
## Beside rclip

Both programs run a ViT-B-32-256 with the same random weights, on the same files and vectors, as whole processes and in
turn, each row when it was last measured: {machine}. The vectors are generated so that they are distributed as CLIP's,
the texts apart from the pictures. Figures are medians, with the fastest and the slowest run in brackets. Memory is the
largest resident memory, of a process with its children. The time of rclip's indexing contains one search. Recall@10
compares the hits of 100 texts with an exhaustive search.
"""

GROWTH = """
## Growth

What each further picture costs at each stage, by the size of the library: {machine}. The first row contains the start
of the process. The files are empty and the vectors generated; decoding and encoding cost the same in a library of any
size.
"""

STAGES = {"record_us": "recording a picture", "scan_us": "scanning a file", "publish_us": "publishing a vector"}
FLAT = 1.5
"""A stage whose cost per picture grows by more than this factor is not flat."""


@click.command()
@click.option("--out", type=click.Path(exists=True, path_type=Path), default=Path("benchmark-runs"), show_default=True)
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def report(out: Path, docs: Path) -> None:
    """Write the page and the plots from the newest runs in the folder --out."""
    write_page(out, docs)


def write_page(out: Path, docs: Path) -> None:
    """Write benchmarks.md, and benchmarks/*.png beside it, from the newest run of each kind."""
    peers, growth = newest_rows(out), newest(out, "growth")
    (docs / "benchmarks").mkdir(parents=True, exist_ok=True)
    parts = [HEAD]
    if any(run and run["quick"] for run in (peers, growth)):
        parts.append(
            "\nThese are the figures of a quick run, which shows that all works and says nothing about speed.\n"
        )
    if peers:
        parts += [PEERS.format(machine=machine_line(peers)), "\n", markdown(*peers_table(peers)), missed(peers)]
    if growth:
        parts += [GROWTH.format(machine=machine_line(growth)), "\n", markdown(*growth_table(growth))]
        parts += [f"\n{line}\n" for line in (not_flat(growth), *growth["left_out"], *growth.get("notes", ()))]
    for name, title in write_plots(docs / "benchmarks", peers, growth).items():
        parts.append(f"\n![{title}](benchmarks/{name})\n")
    (docs / "benchmarks.md").write_text("".join(parts), "utf-8")


def newest(out: Path, kind: str) -> dict | None:
    """Return the newest run of a kind that has figures, or None; names of files sort by time."""
    return next(_runs(out, kind), None)


def newest_rows(out: Path) -> dict | None:
    """Return the newest comparison, with the newest figures of the rows that it left out; None if there is none."""
    run = newest(out, "peers")
    if run is None:
        return None
    known: dict[str, dict] = {}
    for other in _runs(out, "peers"):
        for figures in other["rows"] if other["quick"] == run["quick"] else ():
            known.setdefault(figures["name"], figures)
    return run | {"rows": [known[row.name] for row in ROWS if row.name in known]}


def _runs(out: Path, kind: str) -> Iterator[dict]:
    return (json.loads(path.read_text("utf-8")) for path in sorted(out.glob(f"{kind}-*.json"), reverse=True))


def print_peers(run: dict) -> None:
    """Print the comparison with rclip."""
    print(plain(*peers_table(run)))


def print_growth(run: dict) -> None:
    """Print the costs by the size of the library."""
    print(plain(*growth_table(run)))
    for line in (not_flat(run), *run["left_out"]):
        print(line)


def peers_table(run: dict) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of the comparison."""
    rows = {row.name: row for row in ROWS}
    lines = []
    for figures in run["rows"]:
        row = rows[figures["name"]]
        title = row.title if not run["quick"] else f"{row.name} with {figures['count']:,}"
        ratio = f"{figures['ratio']:.3g}x" if "ratio" in figures else "-"
        recall = f"{figures['text_recall']:.3f}" if "text_recall" in figures else "-"
        judged = "yes" if figures["met"] else "no"
        lines.append([title, _cell(figures.get("rclip")), _cell(figures["clipkit"]), ratio, recall, row.target, judged])
    return ["what", f"rclip {run['rclip']['rclip']}", "clipkit", "ratio", "recall@10", "target", "met"], lines


def growth_table(run: dict) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of the costs by size."""
    headings = ["pictures", "record", "scan", "publish", "catalog", "index", "publishing", "cold search", "warm search"]
    headings += ["nearest, text", "recall@10, text", "recall@10, picture"]
    lines = [
        [
            f"{size['count']:,}",
            *(f"{size[stage]:.0f} µs" for stage in STAGES),
            *(f"{size[part]:,.0f} B" for part in ("catalog_bytes", "vectors_bytes")),
            f"{size['publish_s']:.1f} s, {size['publish_peak_mb']:,.0f} MB",
            f"{size['cold_s']:.2f} s, {size['cold_peak_mb']:,.0f} MB",
            f"{size['search_ms']:.1f} ms",
            f"{size['text_nearest_ms']:.2f} ms",
            *(f"{size[f'{kind}_recall']:.3f}" for kind in ("text", "picture")),
        ]
        for size in run["sizes"]
    ]
    return headings, lines


def not_flat(run: dict) -> str:
    """Return a sentence on the stages whose cost per picture grows, from the size from 10^4 on where it is least."""
    large = [size for size in run["sizes"] if size["count"] >= 10_000] or run["sizes"]
    last, grown = large[-1], []
    for stage, name in STAGES.items():
        least = min(large, key=lambda size: size[stage])
        if last[stage] > FLAT * least[stage]:
            costs = [f"{size[stage]:.0f} µs with {size['count']:,}" for size in (least, last)]
            grown.append(f"{name} ({costs[0]}, {costs[1]})")
    return f"Not flat: {'; '.join(grown)}." if grown else f"No stage grows by more than a factor of {FLAT} per picture."


def missed(run: dict) -> str:
    """Return a sentence on the targets that this run misses; empty if there are none."""
    rows = {row.name: row for row in ROWS}
    names = [
        f"{rows[figures['name']].title} ({rows[figures['name']].target})"
        for figures in run["rows"]
        if not figures["met"]
    ]
    return f"\nMissed: {'; '.join(names)}.\n" if names else ""


def machine_line(run: dict) -> str:
    """Return the machine and the versions in words."""
    own = run["machine"]
    return (
        f"{own['cores']} cores, {own['memory_gb']} GB, {own['system']}, Python {own['python']}, "
        f"clipkit {own['clipkit']}, ONNX Runtime {own['onnxruntime']}, FAISS {own['faiss-cpu']}, {own['date']}"
    )


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (headings, ["---"] * len(headings), *lines))


def plain(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal."""
    widths = [max(len(line[i]) for line in (headings, *lines)) for i in range(len(headings))]
    return "\n".join(
        "  ".join(f"{text:{w}}" for text, w in zip(line, widths, strict=True)) for line in (headings, *lines)
    )


def _cell(figures: dict | None) -> str:
    if figures is None:
        return "-"
    spread = f" ({figures['fastest']:.2f}-{figures['slowest']:.2f})" if len(figures["runs"]) > 1 else ""
    return f"{figures['seconds']:.2f} s{spread}, {figures['peak_mb']:,.0f} MB"
