"""What pip is told: the two FAISS builds side by side, extras, files that must be in the wheel."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import clipkit

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {Requirement(line).name: Requirement(line) for line in lines}


def test_core_has_the_cpu_build_of_faiss_and_no_extra_takes_it_away():
    core = requirements(PROJECT["dependencies"])
    assert "faiss-cpu" in core and "faiss-gpu" not in core
    assert core["faiss-cpu"].marker is None


def test_the_gpu_extra_holds_both_builds_at_one_version():
    """Both own the module `faiss`. At one version their Python files are the same and their libraries have the same
    names, so whichever pip unpacks last is whole, and either order works."""
    gpu = requirements(PROJECT["optional-dependencies"]["gpu"])
    assert set(gpu) == {"faiss-cpu", "faiss-gpu"}
    assert str(gpu["faiss-cpu"].specifier) == str(gpu["faiss-gpu"].specifier)
    (pin,) = gpu["faiss-gpu"].specifier
    assert pin.operator == "==" and pin.version.startswith("1.15.") and "*" not in pin.version
    assert requirements(PROJECT["dependencies"])["faiss-cpu"].specifier.contains(pin.version)
    assert str(gpu["faiss-gpu"].marker) == 'sys_platform == "linux" and platform_machine == "x86_64"'


def test_the_core_has_all_that_diffusers_wants_for_the_bundled_decoder():
    from diffusers.utils.dummy_torch_and_transformers_objects import KandinskyV22Pipeline

    wanted = KandinskyV22Pipeline._backends
    assert "transformers" in wanted and set(wanted) <= set(requirements(PROJECT["dependencies"]))


def test_the_core_has_floors_and_no_upper_pins_but_where_a_private_name_is_used():
    for requirement in requirements(PROJECT["dependencies"]).values():
        operators = sorted(spec.operator for spec in requirement.specifier)
        assert operators == (["<", ">="] if requirement.name == "huggingface_hub" else [">="]), requirement


def test_the_installed_package_is_whole():
    assert importlib.metadata.version("clipkit") == clipkit.__version__
    package = Path(clipkit.__file__).parent
    for name in (
        "bundled/clip/open_clip_model.safetensors", "bundled/clip/open_clip_config.json", "bundled/world/world.json",
        "bundled/world/sprites.webp", "bundled/world/LICENSE", "bundled/README.md", "models/registry.toml",
        "matching/concepts.txt",
    ):  # fmt: skip
        assert (package / name).is_file(), name
    scripts = importlib.metadata.entry_points(group="console_scripts", name="clipkit")
    assert [script.value for script in scripts] == ["clipkit.cli.main:run"]


def test_the_bundled_image_and_text_towers_are_small_and_hold_no_pickle():
    bundled = Path(clipkit.__file__).parent / "bundled"
    assert (bundled / "clip" / "open_clip_model.safetensors").stat().st_size <= 15e6
    assert not [p for p in bundled.rglob("*") if p.suffix in (".pt", ".pth", ".bin", ".pkl", ".ckpt")]
