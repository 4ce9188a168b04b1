"""Command lines in a process of their own, with fewer rights than the tests have, or with mounts that only they see."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

Step = Sequence[str | os.PathLike[str]]
"""`("clipkit", ...)` runs the command line; anything else a program."""

RIGHTS = "cap_dac_override,cap_dac_read_search"


def without_rights_of_root(indexes: Path, *steps: Step) -> list[dict]:
    """Runs the steps as somebody whom permissions bind, and returns code, out and err of each."""
    prefix: list[str] = []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        if not shutil.which("capsh"):
            pytest.skip("root may read everything, and there is no capsh to take that right away")
        prefix = ["capsh", f"--drop={RIGHTS}", "--", "-c", 'exec "$@"', "-"]
    return _run(prefix, indexes, steps)


def with_mounts(indexes: Path, *steps: Step) -> list[dict]:
    """Runs the steps where they may mount, and nobody else sees it; returns code, out and err of each."""
    prefix = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*prefix, "mount", "-t", "tmpfs", "x", "/mnt"]).returncode:
        pytest.skip("this system does not let us mount")
    return _run(prefix, indexes, steps)


def _run(prefix: list[str], indexes: Path, steps: Sequence[Step]) -> list[dict]:
    told = json.dumps([[os.fspath(word) for word in step] for step in steps])
    environment = os.environ | {"CLIPKIT_INDEXES": str(indexes), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*prefix, sys.executable, __file__]
    done = subprocess.run(command, input=told, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _main() -> None:
    from clipkit.cli.main import main
    from clipkit.indexing import run

    run.default_workers = lambda: 1  # as in tests/conftest.py
    answers, results = os.dup(1), []
    for step in json.load(sys.stdin):
        with open(os.devnull, "rb") as nothing, _captured() as (out, err):
            if step[0] == "clipkit":
                code = main(step[1:])
                sys.stdout.flush()
                sys.stderr.flush()
            else:
                code = subprocess.run(step, stdin=nothing).returncode
            texts = [Path(file.name).read_bytes().decode("utf-8", "surrogateescape") for file in (out, err)]
        results.append({"code": code, "out": texts[0], "err": texts[1]})
    os.write(answers, json.dumps(results).encode())


class _captured:
    """Sends what is written to the descriptors 1 and 2 to files."""

    def __enter__(self):
        import tempfile

        self.kept = os.dup(1), os.dup(2)
        self.files = tempfile.NamedTemporaryFile(), tempfile.NamedTemporaryFile()
        for target, file in enumerate(self.files, start=1):
            os.dup2(file.fileno(), target)
        return self.files

    def __exit__(self, *_):
        for target, kept in enumerate(self.kept, start=1):
            os.dup2(kept, target)
            os.close(kept)
        for file in self.files:
            file.close()


if __name__ == "__main__":
    _main()
