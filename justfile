# Recipes for contributors; `just` lists them.

_default:
    @just --list --unsorted

# Install clipkit and what its tests need into .venv
setup:
    python3 -m venv .venv
    .venv/bin/pip install -e '.[dev]'

# Run the tests
test *arguments:
    .venv/bin/pytest {{arguments}}

# Check style and types
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy

# Show clipkit at work on sample scenes
demo *arguments:
    .venv/bin/clipkit demo {{arguments}}

# Write docs/cli.md from the commands, and test all documents
docs:
    .venv/bin/python scripts/write_cli_docs.py > docs/cli.md
    .venv/bin/pytest -n0 tests/docs tests/journeys/test_documents.py
