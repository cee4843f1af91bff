"""`synthct qc` as typed: streams and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from synthct.cli.main import main
from synthct.labels.scheme import maisi_name
from synthct.volume.nifti import write_labels, write_volume
from tests.quality.boxes import patient


def put(folder: Path, name: str, **hu: float) -> None:
    volume, labels = patient(**hu)
    write_volume(folder / f"{name}_ct.nii.gz", volume)
    names = {label: maisi_name(label) for label in labels.ids()}
    write_labels(folder / f"{name}_dseg.nii.gz", labels, names)


def test_a_good_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a")
    assert main(["qc", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "1 of 1 passed" in out and "liver" in out and "error" not in err


def test_a_bad_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a", id_1=400)
    assert main(["qc", str(tmp_path)]) == 4
    out, err = capsys.readouterr()
    assert "liver" in out
    assert err.startswith("error: ") and "liver" in err and len(err.splitlines()) <= 3


@pytest.mark.parametrize(("hu", "code"), [(55, 0), (400, 4)])
def test_json_is_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hu: float, code: int
) -> None:
    put(tmp_path, "a", id_1=hu)
    assert main(["qc", str(tmp_path), "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is (code == 0)
    assert document.get("error", {}).get("code", 0) == code
    assert document["cases"][0]["findings"]


def test_json_of_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qc", str(tmp_path / "none"), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 3


def test_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a")
    (tmp_path / "alone.nii.gz").write_bytes(b"")
    assert main(["qc", str(tmp_path), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_options_before_the_path(tmp_path: Path) -> None:
    put(tmp_path, "a")
    assert main(["qc", "-q", "--labels", "maisi", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--labels", "nobody's"], 2),
        (["--norms", "none.toml"], 3),
        (["--csv", "{dir}/a_ct.nii.gz"], 2),
        (["--image", "x.nii.gz"], 2),
        (["--unknown", "guess"], 2),
    ],
)
def test_wrong_options(tmp_path: Path, args: list[str], code: int) -> None:
    put(tmp_path, "a")
    filled = [arg.format(dir=tmp_path) for arg in args]
    assert main(["qc", str(tmp_path), *filled]) == code


def test_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        put(tmp_path / "real", f"p{seed}", id_1=50 + seed)
    norms = tmp_path / "norms.toml"
    assert main(["qc", "fit", str(tmp_path / "real"), "-o", str(norms), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["fitted"]["liver"]["source"] == "3 medians in 3 cases"
    put(tmp_path / "new", "a", id_1=140)
    assert main(["qc", str(tmp_path / "new"), "-q"]) == 0
    assert main(["qc", str(tmp_path / "new"), "-q", "--norms", str(norms)]) == 4


def test_fit_refuses_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a")
    assert main(["qc", "fit", str(tmp_path), "-o", str(tmp_path / "n.toml")]) == 4
    assert "1 usable cases" in capsys.readouterr().err


def test_a_folder_called_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "fit", "a")
    monkeypatch.chdir(tmp_path)
    assert main(["qc", "./fit", "-q"]) == 0


@pytest.mark.parametrize("words", [["qc", "--help"], ["qc", "fit", "--help"]])
def test_help_shows_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "synthct qc fit REAL_DIR -o norms.toml" in out


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    put(tmp_path, "a")
    code = (
        "import sys; from synthct.cli.main import main; "
        f"rc = main(['qc', {str(tmp_path)!r}, '-q']); "
        "sys.exit(rc or int('torch' in sys.modules or 'monai' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
