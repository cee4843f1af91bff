"""The how-to of docs/training.md, command by command, from a folder of DICOM to a volume.

The commands are read from the page, so that the page is what is tested; only the steps are fewer
and the crops smaller.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.cli.main import main
from synthct.volume.manifest import read_manifest
from synthct.workflows.phantom import write_phantom
from tests.workflows.dicom_series import write_slices

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
SPACING_MM = 6.0
QC_FAILED = 4
FEW = "--set steps=2 --set validate_every=2 --set voxels=16384 --set size_factors=1,1"


def steps_of_the_page() -> list[tuple[str, list[list[str]]]]:
    """Numbered headings with the commands below them, up to the recipes."""
    text = PAGE.read_text(encoding="utf-8").split("\n## Recipes")[0]
    found = []
    for section in re.split(r"\n## (?=\d)", text)[1:]:
        blocks = re.findall(r"```sh\n(.*?)```", section, re.S)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
        commands = [shlex.split(line, comments=True) for line in lines if line.strip()]
        found.append((section.splitlines()[0], commands))
    return found


def write_patient(folder: Path, mask: Path, name: str) -> None:
    """A series of slices whose HU say what the mask has there, and the mask beside them."""
    stored = nib.load(mask)
    ids = np.asanyarray(stored.dataobj)
    rng = np.random.default_rng(len(name))
    hu = np.where(ids == 0, -1000, 40).astype(np.int16)
    hu[ids == 200] = -90  # body
    hu[(ids >= 28) & (ids <= 32)] = -850  # lobes of the lungs
    hu[(ids >= 33) & (ids <= 56)] = 300  # vertebrae
    hu += rng.integers(-15, 16, hu.shape).astype(np.int16)
    # RAS to the LPS of DICOM: the first two axes run the other way
    to_lps = np.diag([-1.0, -1.0, 1.0]) @ stored.affine[:3, :3]
    origin = np.diag([-1.0, -1.0, 1.0]) @ stored.affine[:3, 3]
    along = (to_lps[:, :2] / SPACING_MM).T.ravel()
    tags = {
        "0008|0060": "CT",
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0010|0020": name,
        "0020|000d": f"1.2.3.{len(name)}",
        "0020|000e": f"1.2.3.{len(name)}.1",
        "0020|0011": "1",
        "0020|0037": "\\".join(f"{value:g}" for value in along),
        "0028|1053": "1",
        "0028|1052": "-1024",
    }
    slices = {
        f"IM{(k * 7) % 1000:04d}": (hu[:, :, k].T, origin + to_lps[:, 2] * k)
        for k in range(hu.shape[2])
    }
    write_slices(folder, slices, spacing_mm=(SPACING_MM,) * 3, tags=tags)
    shutil.copy(mask, folder / "labels.nii.gz")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user sits: three people's DICOM, one of them never to be trained on, and a mask."""
    for seed, name in enumerate(("ann", "bert", "clara"), start=1):
        mask = tmp_path / f"{name}.nii.gz"
        write_phantom(mask, region="abdomen", spacing_mm=(SPACING_MM,) * 3, seed=seed)
        write_patient(tmp_path / "dicom" / name, mask, name)
    (tmp_path / "ann.nii.gz").rename(tmp_path / "seg.nii.gz")
    (tmp_path / "validation.txt").write_text("clara\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str]) -> int:
    if words[0] == "cp":
        shutil.copy(*words[1:])
        return 0
    assert words[0] == "synthct", words
    if words[1] == "train":
        words = [*words, *shlex.split(FEW)]
    return main([*words[1:], "-q"])


def test_the_commands_of_the_page_end_with_a_volume(there: Path) -> None:
    chapters = steps_of_the_page()
    assert [title.split(".")[0] for title, _ in chapters] == ["1", "2", "3"]
    (_, prepare), (_, autoencoder), (_, rest) = chapters
    for words in [*prepare, *autoencoder]:
        assert run(words) == 0, words
    rows = read_manifest(there / "data/manifest.tsv")
    assert {name: row.split for name, row in rows.items()} == {
        "ann": "train",
        "bert": "train",
        "clara": "validation",
    }
    assert rows["ann"].pair and not rows["clara"].pair
    for words in rest:
        # two steps of training make no patient: QC says so, and keeps the volume apart
        assert run(words) in ((0, QC_FAILED) if words[1] == "generate" else (0,)), words
    volumes = [path for path in (there / "out").rglob("*.nii.gz") if "seg" in path.name]
    image = nib.load(next(path for path in volumes if "label" not in path.name))
    mask = nib.load(there / "seg.nii.gz")
    assert np.allclose(image.affine, mask.affine)
    assert np.isfinite(image.get_fdata()).all()
