"""The wheel carries what clipkit reads at run time, licences, and one model card."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]


def shipped() -> set[str]:
    """Paths in the wheel, by the `exclude` patterns of pyproject.toml."""
    excluded = {path for pattern in WHEEL["exclude"] for path in ROOT.glob(pattern)}
    files = {path for path in (ROOT / "clipkit").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path.relative_to(ROOT).as_posix() for path in files - excluded}


def test_every_exclude_pattern_matches_something():
    assert all(any(ROOT.glob(pattern)) for pattern in WHEEL["exclude"])


def test_training_scores_stay_in_the_checkout():
    scores = {path.relative_to(ROOT).as_posix() for path in (ROOT / "clipkit/bundled").rglob("scores.json")}
    assert len(scores) == 4 and not scores & shipped()


def test_the_model_card_is_the_only_document():
    assert {path for path in shipped() if path.endswith(".md")} == {"clipkit/bundled/README.md"}
    section = (ROOT / "clipkit/bundled/generation.md").read_text("utf-8")
    assert section in (ROOT / "clipkit/bundled/README.md").read_text("utf-8"), (
        "the card repeats it, so it need not ship"
    )


def test_no_file_is_shipped_twice():
    contents: dict[bytes, str] = {}
    for name in sorted(shipped()):
        content = (ROOT / name).read_bytes()
        assert not content or contents.setdefault(content, name) == name, f"{name} repeats {contents[content]}"


def test_the_build_backend_selects_the_same_files():
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    selected = {file.distribution_path.replace("\\", "/") for file in builder.recurse_included_files()}
    assert selected == shipped()


def test_licences_are_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all((ROOT / name).is_file() for name in project["license-files"])
    assert "clipkit/bundled/world/LICENSE" in shipped()
