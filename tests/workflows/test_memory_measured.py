"""A whole `generate`, in a process of its own: what it grew by against its plan."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.memory import anonymous_bytes
from synthct.workflows.phantom import write_phantom

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="RssAnon is read from /proc, as Linux has it"
    ),
]

TOLERANCE_SHARE, TOLERANCE_BYTES = 0.15, 200 * 2**20
COMMAND = [sys.executable, "-W", "ignore", "-m", "synthct"]


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """191 x 158 x 132 voxels."""
    path = tmp_path_factory.mktemp("mask") / "seg.nii.gz"
    write_phantom(path, region="abdomen", spacing_mm=(2.0, 2.0, 2.0), seed=1)
    return path


@pytest.mark.parametrize("smallest", [False, True], ids=["no limit", "the smallest budget"])
def test_a_whole_run_takes_what_its_plan_says(mask: Path, tmp_path: Path, smallest: bool) -> None:
    """With the embedded weights, from the process's start to its end."""
    words = ["--mask", str(mask), "--device", "cpu"]
    memory = _memory(words)
    if smallest:
        words += ["--max-memory", f"{-(-memory['minimum_bytes'] // 1024)}K"]
        memory = _memory(words)
    more = ["-o", str(tmp_path), "--steps", "2", "--retries", "0", "--json"]
    seen = _most([*COMMAND, "generate", *words, *more])
    predicted = memory["peak_bytes"]
    assert abs(seen - predicted) <= max(TOLERANCE_SHARE * predicted, TOLERANCE_BYTES)
    assert seen <= (1 + TOLERANCE_SHARE) * predicted  # too little said is worse than too much


def test_encoding_keeps_to_its_budget(tmp_path: Path) -> None:
    """224 x 192 x 160 voxels with the embedded autoencoder; without a bound it takes more."""
    shape, allowed = (224, 192, 160), 700 * 2**20
    hu = np.full(shape, -1000, np.int16)
    hu[20:-20, 20:-20] = np.random.default_rng(0).integers(-100, 200, (184, 152, 160))
    image = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(hu, np.diag([2.0, 2.0, 2.0, 1.0])), image)
    del hu
    words = [*COMMAND, "encode", str(image), "-o", str(tmp_path / "latent.npz"), "--device", "cpu"]
    assert _most([*words, "--max-memory", "700M"]) <= allowed
    assert _most([*words, "--overwrite"]) > allowed


def _memory(words: list[str]) -> dict[str, int]:
    done = subprocess.run([*COMMAND, "check", *words, "--json"], capture_output=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)["memory"]
    return found


def _most(command: list[str]) -> int:
    """The most that RssAnon was while the command ran."""
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    most = 0
    while running.poll() is None:
        try:
            most = max(most, anonymous_bytes(running.pid))
        except (OSError, StopIteration):
            break  # it has just ended
        time.sleep(0.002)
    out, _ = running.communicate()
    assert running.returncode in (0, 4), out  # QC of two steps may fail
    return most
