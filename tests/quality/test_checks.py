"""The verdict passes a plausible patient and bites at every wrong one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthct.errors import MaskError
from synthct.geometry import Geometry
from synthct.labels.groups import BODY, LUNG_LOBES
from synthct.quality.checks import judge
from synthct.quality.norms import load_norms
from synthct.quality.verdict import Finding, Verdict
from synthct.volume.volume import LabelVolume, Volume
from tests.quality.boxes import USUAL_HU, patient


def finding(verdict: Verdict, check: str) -> Finding:
    return next(f for f in verdict.findings if f.check == check)


def of_organ(verdict: Verdict, maisi_id: int) -> Finding:
    return next(f for f in verdict.findings if f.maisi_id == maisi_id)


def test_a_plausible_patient_passes() -> None:
    verdict = judge(*patient())
    assert verdict.passed, verdict.reason
    assert verdict.checked == len(USUAL_HU) - 1  # all but the stomach
    assert of_organ(verdict, 4).value == pytest.approx(-9, abs=5)
    assert finding(verdict, "background_air").status == "pass"
    assert finding(verdict, "body_present").status == "pass"


@pytest.mark.parametrize(
    ("maisi_id", "hu"),
    [
        pytest.param(22, -900, id="brain of air"),
        pytest.param(22, 300, id="brain of bone"),
        pytest.param(1, 400, id="liver of contrast"),
        pytest.param(32, 0, id="right lower lobe of water"),
        pytest.param(35, 0, id="vertebra of water"),
        pytest.param(98, -105, id="muscle of fat"),
        pytest.param(3, -100, id="spleen of fat"),
        pytest.param(15, -500, id="bladder of air"),
    ],
)
def test_one_wrong_organ_fails(maisi_id: int, hu: float) -> None:
    verdict = judge(*patient(**{f"id_{maisi_id}": hu}))
    assert not verdict.passed
    assert [f.maisi_id for f in verdict.failures if f.check == "median_hu"] == [maisi_id]
    assert of_organ(verdict, maisi_id).structure in verdict.reason


@pytest.mark.parametrize("lobe", LUNG_LOBES)
def test_every_lobe_counts_by_itself(lobe: int) -> None:
    verdict = judge(*patient(**{f"id_{lobe}": 0}))
    assert of_organ(verdict, lobe).status == "fail"


@pytest.mark.parametrize("hu", [-1000, -100, 0, 40, 300])
def test_a_constant_image_fails(hu: float) -> None:
    volume, labels = patient()
    only_liver = labels.with_array(np.where(labels.array == 1, 1, 0).astype(np.uint8))
    constant = volume.with_array(np.full_like(volume.array, hu))
    verdict = judge(constant, only_liver)
    assert not verdict.passed
    assert finding(verdict, "contrast").status == "fail"


def test_an_absent_organ_is_not_checked() -> None:
    verdict = judge(*patient())
    kidney = of_organ(verdict, 5)
    assert kidney.status == "not checked" and kidney.absent
    assert "right kidney" in verdict.as_dict()["absent"]  # type: ignore[operator]


@pytest.mark.parametrize("kept", [(), (BODY,), (12,), (BODY, 12)])
def test_nothing_to_judge_does_not_pass(kept: tuple[int, ...]) -> None:
    volume, labels = patient()
    few = labels.with_array(np.where(np.isin(labels.array, kept), labels.array, 0))
    verdict = judge(volume, few)
    assert verdict.checked == 0 and not verdict.failures
    assert not verdict.passed
    assert verdict.reason == "no organ could be checked"


def test_a_fragment_is_not_checked() -> None:
    volume, labels = patient(id_1=400)
    cut = labels.array.copy()
    inside = np.argwhere(cut == 1)
    for i, j, k in inside[load_norms().min_voxels - 1 :]:
        cut[i, j, k] = BODY
    verdict = judge(volume, labels.with_array(cut))
    assert of_organ(verdict, 1).status == "not checked"
    assert "needed" in of_organ(verdict, 1).message


def test_a_fragment_is_no_larger_for_finer_voxels() -> None:
    """48 voxels of 0.64 mm³ are the sliver of a lobe of which 3 mm voxels keep one."""
    volume, labels = patient(id_1=400)
    cut = np.where(labels.array == 1, BODY, labels.array)
    for i, j, k in np.argwhere(labels.array == 1)[:48]:
        cut[i, j, k] = 1
    for spacing_mm, status in ((0.8, "not checked"), (1.4, "not checked"), (1.6, "fail")):
        place = Geometry(cut.shape, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
        verdict = judge(Volume(volume.array, place), LabelVolume(cut, place, "maisi"))
        assert of_organ(verdict, 1).status == status


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_voxel_that_is_no_number_fails(bad: float) -> None:
    volume, labels = patient()
    broken = volume.array.copy()
    broken[0, 0, 0] = bad
    verdict = judge(volume.with_array(broken), labels)
    assert [f.check for f in verdict.failures] == ["finite"]
    nothing = judge(volume.with_array(np.full_like(broken, bad)), labels)
    assert not nothing.passed


def test_the_background_must_be_air() -> None:
    volume, labels = patient()
    filled = np.where(labels.array == 0, -90, volume.array).astype(np.float32)
    verdict = judge(volume.with_array(filled), labels)
    assert [f.check for f in verdict.failures] == ["background_air"]


def test_without_an_envelope_the_background_says_nothing() -> None:
    volume, labels = patient()
    bare = np.where(labels.array == BODY, 0, labels.array)
    filled = np.where(labels.array == 0, -90, volume.array).astype(np.float32)
    verdict = judge(volume.with_array(filled), labels.with_array(bare))
    assert finding(verdict, "background_air").status == "not checked"
    assert verdict.passed


def test_a_body_of_air_fails() -> None:
    volume, labels = patient()
    hollow = np.where(labels.array == BODY, -950, volume.array).astype(np.float32)
    failed = {f.check for f in judge(volume.with_array(hollow), labels).failures}
    assert {"body_present", "body_median_hu"} <= failed


def test_organs_of_air_are_no_tissue() -> None:
    volume, labels = patient()
    hollow = np.where(np.isin(labels.array, (1, 3, 4, 98)), -950, volume.array)
    verdict = judge(volume.with_array(hollow.astype(np.float32)), labels)
    assert finding(verdict, "tissue_present").status == "fail"


@pytest.mark.parametrize("scale", [1 / 1000, 20])
def test_values_that_are_no_hu_fail(scale: float) -> None:
    volume, labels = patient()
    verdict = judge(volume.with_array(volume.array * np.float32(scale)), labels)
    assert {"contrast", "value_range"} & {f.check for f in verdict.failures}


def test_image_and_label_must_share_their_grid() -> None:
    volume, labels = patient()
    moved = labels.geometry.affine.copy()
    moved[0, 3] += 1.0  # a third of a voxel
    verdict = judge(volume, replace(labels, geometry=Geometry(labels.geometry.shape, moved)))
    assert [f.check for f in verdict.failures] == ["geometry"]
    moved[0, 3] = labels.geometry.affine[0, 3] + 1e-4
    assert judge(volume, replace(labels, geometry=Geometry(labels.geometry.shape, moved))).passed


def test_a_label_of_another_shape_fails() -> None:
    volume, labels = patient()
    short = labels.array[:, :, :-1]
    other = LabelVolume(short, Geometry(short.shape, labels.geometry.affine))  # type: ignore[arg-type]
    verdict = judge(volume, other)
    assert not verdict.passed and verdict.checked == 0
    assert "40×36×29" in verdict.reason


def test_the_verdict_does_not_depend_on_the_order_in_memory() -> None:
    volume, labels = patient()
    fortran = judge(
        volume.with_array(np.asfortranarray(volume.array)),
        labels.with_array(np.ascontiguousarray(labels.array)),
    )
    assert fortran.as_dict() == judge(volume, labels).as_dict()


def test_integers_and_floats_agree() -> None:
    volume, labels = patient()
    rounded = np.rint(volume.array)
    as_int = judge(volume.with_array(rounded.astype(np.int16)), labels)
    assert as_int.as_dict() == judge(volume.with_array(rounded), labels).as_dict()


def test_other_modalities_have_no_ranges() -> None:
    volume, labels = patient()
    verdict = judge(replace(volume, modality="MR"), labels)
    assert verdict.checked == 0 and not verdict.passed


def test_ids_beyond_maisi() -> None:
    volume, labels = patient()
    strange = labels.array.astype(np.int32)
    strange[strange == 1] = 250
    verdict = judge(volume, labels.with_array(strange))
    assert of_organ(verdict, 250).status == "not checked"
    strange[strange == 250] = 300
    with pytest.raises(MaskError, match="300"):
        judge(volume, labels.with_array(strange))


def test_fewer_wrong_organs_are_less_bad() -> None:
    one = judge(*patient(id_1=400))
    two = judge(*patient(id_1=400, id_22=-900))
    assert judge(*patient()).badness < one.badness < two.badness


def test_two_seeds_judge_alike_but_not_equal() -> None:
    first, second = judge(*patient(seed=1)), judge(*patient(seed=2))
    assert first.passed and second.passed
    assert first.as_dict() != second.as_dict()


def test_volume_type_is_kept_by_the_caller() -> None:
    volume, labels = patient()
    before = volume.array.copy(), labels.array.copy()
    judge(volume, labels)
    assert isinstance(volume, Volume)
    np.testing.assert_array_equal(volume.array, before[0])
    np.testing.assert_array_equal(labels.array, before[1])
