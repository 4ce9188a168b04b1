"""The package's metadata: the two FAISS builds side by side, extras, version bounds, installed files."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import clipkit

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {Requirement(line).name: Requirement(line) for line in lines}


def test_core_depends_on_the_cpu_build_of_faiss_everywhere():
    core = requirements(PROJECT["dependencies"])
    assert "faiss-cpu" in core and "faiss-gpu" not in core
    assert core["faiss-cpu"].marker is None


def test_the_gpu_extra_pins_both_builds_to_one_version():
    """Both install the module `faiss`. At the same version their Python files are identical and their libraries have
    the same names, so whichever pip installs last works."""
    gpu = requirements(PROJECT["optional-dependencies"]["gpu"])
    assert set(gpu) == {"faiss-cpu", "faiss-gpu"}
    assert str(gpu["faiss-cpu"].specifier) == str(gpu["faiss-gpu"].specifier)
    (pin,) = gpu["faiss-gpu"].specifier
    assert pin.operator == "==" and pin.version.startswith("1.15.") and "*" not in pin.version
    assert requirements(PROJECT["dependencies"])["faiss-cpu"].specifier.contains(pin.version)
    assert str(gpu["faiss-gpu"].marker) == 'sys_platform == "linux" and platform_machine == "x86_64"'


def test_core_includes_what_diffusers_requires_for_the_bundled_decoder():
    from diffusers.utils.dummy_torch_and_transformers_objects import KandinskyV22Pipeline

    required = KandinskyV22Pipeline._backends
    assert "transformers" in required and set(required) <= set(requirements(PROJECT["dependencies"]))


def test_core_has_lower_bounds_and_an_upper_bound_only_where_a_private_name_is_used():
    for requirement in requirements(PROJECT["dependencies"]).values():
        operators = sorted(spec.operator for spec in requirement.specifier)
        assert operators == (["<", ">="] if requirement.name == "huggingface_hub" else [">="]), requirement


def test_the_installed_package_is_complete():
    assert importlib.metadata.version("clipkit") == clipkit.__version__
    package = Path(clipkit.__file__).parent
    for name in (
        "bundled/clip/open_clip_model.safetensors",
        "bundled/clip/open_clip_config.json",
        "bundled/world/world.json",
        "bundled/world/sprites.webp",
        "bundled/world/LICENSE",
        "bundled/README.md",
        "models/registry.toml",
        "matching/concepts.txt",
    ):
        assert (package / name).is_file(), name
    scripts = importlib.metadata.entry_points(group="console_scripts", name="clipkit")
    assert [script.value for script in scripts] == ["clipkit.cli.main:run"]


def test_the_bundled_towers_are_small_and_contain_no_pickle():
    bundled = Path(clipkit.__file__).parent / "bundled"
    assert (bundled / "clip" / "open_clip_model.safetensors").stat().st_size <= 15e6
    assert not [p for p in bundled.rglob("*") if p.suffix in (".pt", ".pth", ".bin", ".pkl", ".ckpt")]


def test_the_check_of_the_floors_names_tests_that_exist():
    named = re.findall(r"tests/[\w/]+\.py", (ROOT / ".ci" / "floors").read_text("utf-8"))
    assert named and all((ROOT / name).is_file() for name in named)
