"""The embedded model follows the mask: the figures of its card, on real label maps."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from benchmarks.obedience import figures
from synthct.checkpoints.store import embedded_folder
from synthct.errors import MaskError
from synthct.workflows.generate import GenerateReport, generate
from synthct.workflows.phantom import write_phantom

CASES = {
    "ts-example": Path("ct/ts-example/labels.nii.gz"),
    "ts-s0327": Path("ct_labels_only/ts-s0327/labels.nii.gz"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (embedded_folder("maisi-mini-ct") / "unet.safetensors").is_file(),
        reason="the embedded weights are not in this checkout",
    ),
]


@pytest.fixture(scope="module", params=CASES)
def made(
    request: pytest.FixtureRequest,
    shared_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> GenerateReport:
    return generate(
        shared_data / CASES[request.param],
        labels="totalsegmentator",
        spacing_mm=(3.0, 3.0, 3.0),
        output=tmp_path_factory.mktemp(request.param),
    )


def test_it_passes_qc_within_the_default_retries(made: GenerateReport) -> None:
    assert made.exit_code == 0, made.cases[0].summary.message


def test_it_obeys_the_mask(made: GenerateReport) -> None:
    volume, labels = made.cases[0].volume, made.cases[0].labels
    assert volume is not None and labels is not None
    found = figures(volume.array, labels.array)
    assert found["lung_under_-400"] >= 0.80  # real: 0.97
    assert found["solid_under_-400"] <= 0.03
    assert found["bone_dice"] >= 0.60  # real: 0.78 and 0.72


def test_the_skin_is_closed(made: GenerateReport) -> None:
    """Slice by slice: what lies inside the line of tissue is the body, lungs and bowel gas too."""
    volume, labels = made.cases[0].volume, made.cases[0].labels
    assert volume is not None and labels is not None
    axial = int(np.argmax(np.abs(volume.geometry.affine[2, :3])))
    slices = zip(
        np.moveaxis(volume.array, axial, 0), np.moveaxis(labels.array, axial, 0), strict=True
    )
    covered = [
        ndimage.binary_fill_holes(hu > -500)[ids > 0].mean()
        for hu, ids in slices
        if (ids > 0).sum() > 50
    ]
    assert min(covered) > 0.95


@pytest.mark.parametrize("name", CASES)
def test_without_names_the_mask_is_refused(name: str, shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="do not tell its scheme") as refused:
        generate(shared_data / CASES[name], output=tmp_path)
    assert refused.value.exit_code == 3
    assert "--labels" in str(refused.value.hint)


def test_most_phantoms_pass_at_the_first_try(tmp_path: Path) -> None:
    passed = 0
    for seed in range(10):
        mask = tmp_path / f"phantom{seed}.nii.gz"
        write_phantom(mask, region="chest-abdomen", spacing_mm=(3.0, 3.0, 3.0), seed=seed)
        report = generate(mask, output=tmp_path / "out", retries=0)
        passed += report.exit_code == 0
    assert passed >= 8


def test_names_in_the_header_make_the_flag_needless(shared_data: Path, tmp_path: Path) -> None:
    from synthct.labels.scheme import load_scheme
    from synthct.volume.nifti import write_labels
    from synthct.volume.reading import read_labels
    from synthct.workflows.check import check

    labels = read_labels(shared_data / CASES["ts-example"]).labels
    names = load_scheme("totalsegmentator").labels
    named = tmp_path / "named.nii.gz"
    write_labels(named, labels, {i: names[i] for i in labels.ids()})
    report = check(named)
    assert report.mask is not None and report.mask.scheme.name == "totalsegmentator"
    assert np.asarray(nib.load(named).dataobj).max() == labels.array.max()
