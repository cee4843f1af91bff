"""`torchrun … -m synthct train`, as the page says it: two processes, a signal, a split U-Net."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from synthct.checkpoints.load import read_metadata, read_tensors
from synthct.workflows.train import train
from tests.workflows.prepared_data import write_prepared

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LONGEST_S = 300


def started(task: str, prepared: Path, output: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "synthct", "train", task, "--recipe", "tiny"]
    command += ["--data", str(prepared), "-o", str(output), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--json"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """torchrun's exit code, and the one document that its processes write together."""
    try:
        written, said = process.communicate(timeout=LONGEST_S)
    finally:
        process.kill()
    try:
        return process.returncode, json.loads(written)
    except json.JSONDecodeError:
        pytest.fail(f"no single document: {written}\n{said}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("prepared"))


def test_a_signal_to_torchrun_saves_once_and_the_run_goes_on(
    prepared: Path, tmp_path: Path
) -> None:
    words = ("--set", "steps=60", "--set", "log_every=2")
    running = started("maisi-vae", prepared, tmp_path, *words)
    log = tmp_path / "maisi-vae/log.csv"
    until = time.monotonic() + LONGEST_S
    while not log.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    code, document = ended(running)
    assert code != 0 and document["stopped"]
    assert not list(tmp_path.glob("*.safetensors"))
    step = torch.load(tmp_path / "maisi-vae/checkpoint.pt", weights_only=False)["step"]
    assert 2 <= step == document["steps"] < 60
    code, document = ended(started("maisi-vae", prepared, tmp_path, *words, "--resume"))
    assert code == 0 and not document["stopped"]
    assert read_metadata(tmp_path / "vae.safetensors")["steps"] == "60"


def test_the_unet_of_maisi_learns_the_same_split_over_two_processes(
    prepared: Path, tmp_path: Path
) -> None:
    """FSDP against whole copies, through the command: one figure of float16 apart at most."""
    train("maisi-vae", data_folder=prepared, output=tmp_path / "vae", recipe_name="tiny")
    found = []
    for split in ("true", "false"):
        output = tmp_path / split
        words = ("--from", str(tmp_path / "vae"), "--set", f"shard={split}")
        code, _ = ended(started("maisi-diffusion", prepared, output, *words))
        assert code == 0
        found.append(read_tensors(output / "unet.safetensors"))
    split, whole = found
    assert split.keys() == whole.keys()
    for key, value in whole.items():
        assert torch.allclose(split[key].float(), value.float(), rtol=2e-3, atol=2e-4), key
