"""Measure clipkit's speed and memory use on this machine.

    python scripts/benchmark.py peers [--quick]             clipkit beside rclip: searches, indexing, memory
    python scripts/benchmark.py growth [--quick]            the cost per picture of each stage, from 10^3 pictures on
    python scripts/benchmark.py report --out DIR --docs DIR the page and the plots of runs that were kept
    python scripts/benchmark.py profile [--count 22]        the CPU time of each stage of a cold text search
    python scripts/benchmark.py memory [--images 20000]     resident memory while indexing
    python scripts/benchmark.py index [--images 2000]       indexing rate of JPEG files, and what each stage took
    python scripts/benchmark.py encoders --model ID         the image tower in ONNX Runtime and in torch, by batch size
    python scripts/benchmark.py search [--vectors 1000000]  building and searching an index, see its --help
    python scripts/benchmark.py cold [--model ID]           a whole `clipkit search` process, and the image tower, in
                                                            ONNX Runtime and in torch

Each prints a table. Pictures, vectors and weights are generated from fixed seeds; `peers` and `growth` keep what they
prepared in a folder (`--work`), so that the next run starts at once, and each run as JSON in another (`--out`).
"""

from __future__ import annotations

import click
from benchmark_clipkit import cold, memory, search
from benchmark_growth import growth
from benchmark_indexing import encoders, index
from benchmark_peers import peers
from benchmark_profile import profile
from benchmark_report import report


@click.group()
def main() -> None:
    """Measure clipkit."""


for command in (peers, growth, report, profile, memory, index, encoders, search, cold):
    main.add_command(command)

if __name__ == "__main__":
    main()
