"""`--device cpu,cpu` from the command line: the voxels of one device, and plain refusals."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.cli.main import main
from synthct.errors import UsageError
from synthct.models import settings
from synthct.models.settings import split_devices
from synthct.workflows.generate import generate
from synthct.workflows.phantom import write_phantom
from synthct.workflows.plan import plan

_SHORT = {"retries": 0, "steps": 1}


@pytest.mark.slow
@pytest.mark.parametrize("size", [(150, 150, 96)], ids=str)
def test_generate_on_two_gives_the_voxels_of_one(
    tmp_path: Path, size: tuple[int, int, int]
) -> None:
    mask = tmp_path / "mask.nii.gz"
    write_phantom(mask, region="abdomen", spacing_mm=(5.0, 5.0, 5.0), seed=3)
    one = generate(mask, output=tmp_path / "one", device="cpu", **_SHORT)
    two = generate(mask, output=tmp_path / "two", device="cpu,cpu", **_SHORT)
    (a,), (b,) = (report.cases for report in (one, two))
    assert a.volume is not None and b.volume is not None and b.sidecar is not None
    difference = np.abs(a.volume.array - b.volume.array)
    assert difference.max() <= 1  # HU: rounding that falls to the other side
    assert (difference > 0).mean() < 1e-3
    assert b.sidecar.sampling.device == "cpu,cpu"
    assert {path.suffix for path in (tmp_path / "two").iterdir()} <= {".gz", ".json", ".png"}
    assert nib.load(next((tmp_path / "two").glob("*_ct.nii.gz"))).shape == b.volume.array.shape


def test_the_plan_counts_the_share_of_each() -> None:
    words = {"size": (256, 256, 256), "model": "maisi-ct-rflow", "stage": "decode"}
    one, two, four = (
        plan(**words, device=",".join(["cuda"] if n == 1 else [f"cuda:{i}" for i in range(n)]))
        for n in (1, 2, 4)
    )
    peaks = [report.memory.peak_bytes for report in (one, two, four)]
    assert peaks == sorted(peaks, reverse=True)
    beside = one.memory.resident_bytes
    assert peaks[2] - beside < 0.4 * (peaks[0] - beside)
    assert two.as_dict()["memory"]["devices"] == 2
    assert "on each of 2 devices" in two.memory.choice


@pytest.mark.parametrize("command", ["plan --size 64 64 64", "generate --mask x.nii.gz"])
@pytest.mark.parametrize("name", ["cpu,cuda", "cuda:0,cuda:0", "cuda,cuda:0", "mps,mps", "cpu,"])
def test_devices_that_do_not_go_together(
    capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    assert main([*command.split(), "--device", name, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 2


def test_absent_devices_are_refused_with_what_is_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in ("selftest decode", f"decode {tmp_path}/no.npz -o {tmp_path}/x.nii.gz"):
        code = main([*command.split(), "--device", "cuda:70,cuda:71"])
        said = capsys.readouterr().err
        assert (code, "present: auto, cpu" in said) == (2, True) or "no.npz" in said


def test_lists_are_split() -> None:
    assert split_devices("auto") == ("auto",)
    assert split_devices("cuda:0,cuda:1") == ("cuda:0", "cuda:1")
    assert settings.SEVERAL.fullmatch("cpu,cpu,cpu")
    with pytest.raises(UsageError, match="no list of devices"):
        split_devices("cuda,cuda:0")
