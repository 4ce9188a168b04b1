"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

import subprocess
import sys

from documents import ROOT


def test_the_reference_of_commands_is_current():
    script = ROOT / "scripts" / "write_cli_docs.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, encoding="utf-8", check=True)
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert written == printed.stdout, "run `python scripts/write_cli_docs.py > docs/cli.md`"
