"""What can be made of a picture: the menu, the dialogs, the runs with progress and cancel, all of it by keyboard too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipkit.errors import LibraryBusy  # noqa: F401
from server.conftest import Server, running
from server.page.conftest import parameters, violations

expect: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
