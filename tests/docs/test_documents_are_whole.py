"""Links lead somewhere, the README stays short, and docs/architecture.md names what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, name_of
from test_architecture import FLOORS

CARD = ROOT / "clipkit" / "bundled" / "README.md"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ALL_TEXT = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)


def links() -> list[tuple[Path, str]]:
    pattern = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
    return [(d, link) for d in (*DOCUMENTS, CARD) for link in pattern.findall(d.read_text("utf-8"))]


@pytest.mark.parametrize(("document", "link"), links(), ids=lambda value: value if isinstance(value, str) else "")
def test_links_lead_somewhere(document: Path, link: str):
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    assert target.is_file(), name_of(document)
    if anchor:
        assert anchor in anchors(target), name_of(document)


def anchors(document: Path) -> set[str]:
    """Return the anchors that a page gives its headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short_and_leads_to_every_page():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 150
    for page in (*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        assert f"({name_of(page)})" in readme


def test_the_floors_are_those_that_the_code_is_held_to():
    table = ARCHITECTURE.partition("## Floors")[2].partition("## ")[0]
    rows = [
        re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("| `")
    ]
    assert [set(row) for row in rows] == [set(floor.split()) for floor in FLOORS]


STEPS = re.findall(r"^\d+\. (?:.+\n)+?(?=\d+\. |\n)", ARCHITECTURE, re.M)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.partition("`:")[0])
def test_the_journeys_name_files_and_functions_that_exist(step: str):
    files = [ROOT / file for file in re.findall(r"`(clipkit/[\w/]+\.py)`", step)]
    names = set(re.findall(r"`([A-Za-z_][\w.]*)`", step))
    assert files and names
    assert [file for file in files if not file.is_file()] == []
    assert names - set().union(*map(defined, files)) == set()


def defined(file: Path) -> set[str]:
    """Return the functions, classes and methods (`Class.method`) that a module defines."""
    found = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("script", sorted(set(re.findall(r"`(scripts/\w+\.py)`", ALL_TEXT))))
def test_scripts_that_are_named_exist(script: str):
    assert (ROOT / script).is_file()
