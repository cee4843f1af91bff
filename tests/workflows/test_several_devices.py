"""`--device cpu,cpu` from the command line: the voxels of one device, and plain refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthct.cli.main import main
from synthct.errors import UsageError
from synthct.models import settings
from synthct.models.maisi import several
from synthct.models.maisi.generator import MaisiGenerator
from synthct.models.settings import split_devices
from synthct.workflows.generate import GenerateReport, generate
from synthct.workflows.phantom import write_phantom
from synthct.workflows.plan import plan
from tests.models.maisi.short_worker import TIMES

_SHORT = {"retries": 0, "steps": 1}


@pytest.mark.slow
def test_generate_on_two_gives_the_voxels_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where memory runs out in one of the two processes."""
    decoded: list[np.ndarray] = []
    own = MaisiGenerator._decoded

    def seen(*words: Any) -> Any:
        image = own(*words)
        assert image is not None  # it is not streamed
        decoded.append(image.double().numpy())
        return image

    monkeypatch.setattr(MaisiGenerator, "_decoded", seen)
    mask = tmp_path / "mask.nii.gz"
    write_phantom(mask, region="abdomen", spacing_mm=(5.0, 5.0, 5.0), seed=3)
    one = generate(mask, output=tmp_path / "one", device="cpu", **_SHORT)
    two = generate(mask, output=tmp_path / "two", device="cpu,cpu", **_SHORT)
    monkeypatch.setattr(several, "WORKER", "tests.models.maisi.short_worker")
    monkeypatch.setenv(TIMES, "1")
    short = generate(mask, output=tmp_path / "short", device="cpu,cpu", **_SHORT)
    assert len(decoded) == 3
    for name, report, image in (("two", two, decoded[1]), ("short", short, decoded[2])):
        assert _relative(image, decoded[0]) <= 3e-6
        assert np.abs(_written(report) - _written(one)).max() <= 1  # HU, rounded
        sidecar = report.cases[0].sidecar
        assert sidecar is not None
        assert sidecar.sampling.device == "cpu,cpu"
        left = {path.suffix for path in (tmp_path / name).iterdir()}
        assert left <= {".gz", ".json", ".png"}


def _written(report: GenerateReport) -> np.ndarray:
    volume = report.cases[0].volume
    assert volume is not None
    return volume.array.astype(np.float64)


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.mark.slow
def test_decode_on_two_gives_the_file_of_one(tmp_path: Path) -> None:
    """Sides that do not divide; whole HU, of which hardly any may round to the other side."""
    noise = np.random.default_rng(0).normal(0, 300, (27, 18, 22)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    assert main(["encode", f"{tmp_path}/scan.nii.gz", "-o", f"{tmp_path}/l.npz", "-q"]) == 0
    for name in ("cpu", "cpu,cpu"):
        words = ["decode", f"{tmp_path}/l.npz", "-o", f"{tmp_path}/{name}.nii.gz", "-q"]
        assert main([*words, "--device", name]) == 0
    one, two = (nib.load(tmp_path / f"{n}.nii.gz").get_fdata() for n in ("cpu", "cpu,cpu"))
    assert one.shape == noise.shape
    assert np.abs(one - two).max() <= 1
    assert (one != two).mean() < 1e-3


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
