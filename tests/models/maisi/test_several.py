"""Several devices give what one gives, and leave nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from synthct.errors import MemoryBudgetError
from synthct.models.maisi import several
from synthct.models.maisi.decode import decode
from synthct.models.maisi.plans import decode_plan
from synthct.models.maisi.several import Piece, decode_on
from synthct.models.maisi.spec import AutoencoderSpec
from synthct.tiling.cuts import Cut
from tests.models.maisi.short_worker import TIMES
from tests.reference.autoencoders import autoencoder

SPEC = AutoencoderSpec((8, 16), (1, 1), 4, 4)
SIZE = (9, 5, 7)
ROOT = Path(__file__).resolve().parents[3]

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def _piece(size: tuple[int, int, int] = SIZE, devices: int = 2) -> Piece:
    torch.manual_seed(0)
    network = autoencoder(num_channels=SPEC.num_channels, norm_num_groups=SPEC.norm_num_groups)
    latent = torch.randn(1, 4, *size)
    return Piece(SPEC, network, latent, decode_plan(SPEC, size, devices=devices))


def _relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).norm() / expected.norm())


def test_three_processes_give_what_monai_gives(tmp_path: Path) -> None:
    piece = _piece(devices=3)
    told: list[tuple[int, int]] = []
    got = decode_on(
        ["cpu"] * 3, piece, spill_dir=tmp_path, progress=lambda *words: told.append(words)
    )
    assert got is not None
    with torch.no_grad():
        assert _relative(got, piece.autoencoder.decode(piece.latent)) <= 3e-6
    assert told[-1][0] == told[-1][1] > 0
    assert not list(tmp_path.iterdir())


def test_memory_that_runs_out_in_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "WORKER", "tests.models.maisi.short_worker")
    monkeypatch.setenv(TIMES, "1")
    piece = _piece()
    image = torch.full((1, 1, 18, 10, 14), torch.nan)

    def sink(sample: int, cut: Cut, axis: int, slab: torch.Tensor) -> None:
        image.narrow(2 + axis, cut[0], cut[1] - cut[0]).copy_(slab)

    assert decode_on(["cpu", "cpu"], piece, spill_dir=tmp_path, sink=sink) is None
    assert _relative(image, decode(piece.autoencoder, piece.latent)) <= 3e-6
    assert not list(tmp_path.iterdir())


def test_memory_that_runs_out_for_good_is_refused_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "WORKER", "tests.models.maisi.short_worker")
    monkeypatch.setenv(TIMES, "1000000")
    with pytest.raises(MemoryBudgetError, match="ran out of memory") as refused:
        decode_on(["cpu", "cpu"], _piece(), spill_dir=tmp_path)
    assert refused.value.minimum is not None
    assert not list(tmp_path.iterdir())


_SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from pathlib import Path
from synthct.models.maisi.several import decode_on
from tests.models.maisi.test_several import _piece
print("ready", flush=True)
decode_on(["cpu", "cpu"], _piece((40, 40, 40)), spill_dir=Path(sys.argv[1]))
"""


@posix
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=lambda sent: sent.name)
def test_neither_processes_nor_files_outlive_it(tmp_path: Path, sent: signal.Signals) -> None:
    """SIGINT goes to the whole group, as Ctrl-C does; SIGKILL to the parent alone."""
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    group = process.pid
    _until(lambda: any(tmp_path.glob("*/meeting")), "the workers to meet")
    if sent == signal.SIGINT:
        os.killpg(group, sent)
    else:
        process.send_signal(sent)
    assert process.wait(60) != 0
    _until(lambda: not _alive(group), "the workers to end")
    _until(lambda: not list(tmp_path.iterdir()), "the folder to go")


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _until(done: object, what: str) -> None:
    assert callable(done)
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
