from __future__ import annotations

import numpy as np
import pytest

from synthct.errors import MaskError
from synthct.labels.groups import BONES, LUNG_LOBES
from synthct.labels.render import TISSUES, appearance, draw_patient, render_hu, smooth_noise
from synthct.labels.scheme import maisi_name

SPACING = (3.0, 3.0, 3.0)


@pytest.fixture
def labels() -> np.ndarray:
    """A body of 40×40×24 voxels with a liver, a lung, a vertebra, an aorta."""
    a = np.zeros((40, 40, 24), np.uint8)
    a[3:37, 3:37] = 200
    a[6:16, 8:30, 4:20] = 1
    a[22:34, 16:30, 4:20] = 28
    a[17:27, 5:13] = 40
    a[17:21, 16:20] = 6
    return a


def test_structures_look_like_themselves(labels: np.ndarray) -> None:
    for seed in range(6):
        hu = render_hu(labels, None, SPACING, np.random.default_rng(seed))
        assert hu.dtype == np.float32
        assert hu.shape == labels.shape
        assert np.abs(hu).max() <= 1000
        assert 20 < np.median(hu[labels == 1]) < 160
        assert -950 < np.median(hu[labels == 28]) < -650
        assert np.median(hu[labels == 40]) > 120
        assert np.median(hu[labels == 6]) > 5
        assert np.median(hu[labels == 0]) < -970


def test_bone_is_denser_at_its_surface(labels: np.ndarray) -> None:
    hu = np.mean(
        [render_hu(labels, None, SPACING, np.random.default_rng(s)) for s in range(4)], axis=0
    )
    assert hu[17, 9, 12] > hu[21:23, 8:10, 10:14].mean() + 60


def test_the_same_state_draws_the_same_image(labels: np.ndarray) -> None:
    one, two, other = (
        render_hu(labels, None, SPACING, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_tissue_map_decides_what_body_is(labels: np.ndarray) -> None:
    tissues = np.zeros_like(labels)
    tissues[labels == 200] = 1
    upper = (labels == 200) & (np.indices(labels.shape)[1] > 30)
    tissues[upper] = 2
    gas = (labels == 1) & (np.indices(labels.shape)[2] > 14)
    tissues[gas] = 5
    hu = render_hu(labels, tissues, SPACING, np.random.default_rng(3))
    assert -140 < np.median(hu[(labels == 200) & ~upper]) < -60
    assert 20 < np.median(hu[upper]) < 90
    assert np.median(hu[gas]) < -700


def test_contrast_couples_what_shares_blood() -> None:
    patients = [draw_patient(np.random.default_rng(s)) for s in range(300)]
    assert {p.phase for p in patients} == {"plain", "arterial", "portal"}
    aorta, iliac, heart = (np.array([p.hu[i] for p in patients]) for i in (6, 58, 115))
    assert np.corrcoef(aorta, iliac)[0, 1] > 0.98
    assert np.corrcoef(aorta, heart)[0, 1] > 0.8
    plain = [p for p in patients if p.phase == "plain"]
    assert np.mean([p.hu[6] for p in plain]) == pytest.approx(42, abs=6)


def test_every_structure_but_bone_lung_and_body_has_a_row() -> None:
    rows = [i for row in appearance()["structures"] for i in row["ids"]]
    assert len(rows) == len(set(rows))
    named = {i for i in range(1, 133) if not maisi_name(i).startswith("dummy")}
    assert set(rows) == named - set(BONES) - set(LUNG_LOBES)
    assert set(appearance()["tissues"]) == set(TISSUES)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 7.3])
def test_noise_has_unit_variance_and_its_length(sigma: float) -> None:
    noise = smooth_noise((48, 40, 36), sigma, np.random.default_rng(0))
    assert noise.shape == (48, 40, 36)
    assert 0.6 < noise.std() < 1.3
    near = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    assert near > {0.5: 0.15, 2.0: 0.8, 7.3: 0.95}[sigma]


def test_wrong_maps_are_refused(labels: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(MaskError):
        render_hu(labels.astype(np.int32), None, SPACING, rng)  # type: ignore[arg-type]
    with pytest.raises(MaskError):
        render_hu(labels, labels[1:], SPACING, rng)


def test_nothing_but_body_can_be_drawn() -> None:
    labels = np.full((8, 8, 8), 200, np.uint8)
    assert np.isfinite(render_hu(labels, None, SPACING, np.random.default_rng(0))).all()
