"""`synthct weights` and `synthct inspect` from the command line: streams and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synthct.cli.main import main
from synthct.geometry import Geometry
from synthct.volume.nifti import write_volume
from synthct.volume.volume import Volume


@pytest.mark.parametrize(
    "args", [["list"], ["show"], ["show", "maisi-mini-ct"], ["where"], ["where", "maisi-mini-ct"]]
)
def test_weights_speak_plainly_and_in_json(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", *args]) == 0
    text = capsys.readouterr()
    assert "maisi-mini-ct" in text.out
    assert text.err == ""
    assert main(["weights", *args, "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_an_unknown_model_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "show", "nothing", "--json"]) == 2
    streams = capsys.readouterr()
    assert json.loads(streams.out)["error"]["kind"] == "UsageError"
    assert len(streams.err.strip().splitlines()) <= 3


def test_missing_weights_are_exit_6(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "verify", "--weights", str(tmp_path)]) == 6
    assert "missing" in capsys.readouterr().err


def test_inspect_of_a_header_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    geometry = Geometry.from_spacing((3, 3, 3), (1.0, 1.0, 1.0))
    volume = Volume(np.zeros((3, 3, 3), dtype=np.int16), geometry)
    path = tmp_path / "a.nii.gz"
    write_volume(path, volume, description="SYNTHETIC synthct 0.1.0 maisi-mini-ct seed 5 try 2")
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("SYNTHETIC")
    assert "maisi-mini-ct" in text
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["header"]["attempt"] == 2
    assert main(["inspect", str(path), "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_inspect_of_what_is_not_ours_is_exit_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("[1]", encoding="utf-8")
    for name in ("a.json", "absent.nii.gz"):
        assert main(["inspect", str(tmp_path / name)]) == 3
        assert len(capsys.readouterr().err.strip().splitlines()) <= 3


@pytest.mark.parametrize("args", [["weights", "list"], ["inspect", "--help"]])
def test_no_torch_is_loaded(args: list[str]) -> None:
    code = (
        "import sys; from synthct.cli.main import main; main(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules or 'nibabel' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, check=False)
    assert done.returncode == 0
