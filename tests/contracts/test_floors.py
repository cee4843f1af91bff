"""The import floors of docs/architecture.md, held by import-linter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from importlinter.cli import lint_imports_command as lint; lint()"
ROOT = Path(__file__).resolve().parents[2]


def test_imports_run_downwards_only() -> None:
    pytest.importorskip("importlinter", reason="import-linter comes with `pip install -e .[dev]`")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--no-cache"],
        capture_output=True,
        encoding="utf-8",  # whatever locale a test before has left
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout + run.stderr
