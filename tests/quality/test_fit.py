"""Ranges fitted to real scans accept what they were fitted to, and still bite."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthct.errors import QualityError
from synthct.quality.checks import judge
from synthct.quality.fit import fit, to_toml
from synthct.quality.norms import Norms, load_norms
from tests.quality.boxes import patient


def bounds(norms: Norms, maisi_id: int) -> tuple[float, float]:
    group = norms.group_of(maisi_id)
    assert group is not None and group.low is not None and group.high is not None
    return group.low.hu, group.high.hu


def test_fitted_ranges_pass_their_own_cases_and_bite() -> None:
    cases = [patient(seed=n, id_1=50 + 4 * n) for n in range(5)]
    norms = fit(cases)
    assert all(judge(*case, norms).passed for case in cases)
    low, high = bounds(norms, 1)
    assert 30 < low < 50 and 66 < high < 90
    assert not judge(*patient(id_1=110), norms).passed
    assert judge(*patient(id_1=110)).passed  # within the built-in range


def test_a_shifted_scanner_gets_its_own_ranges() -> None:
    shifted = [patient(seed=n, id_1=330 + n) for n in range(4)]
    assert not judge(*shifted[0]).passed
    norms = fit(shifted)
    assert all(judge(*case, norms).passed for case in shifted)
    assert not judge(*patient(id_1=55), norms).passed


def test_one_mislabelled_case_does_not_widen_a_range() -> None:
    cases = [patient(seed=n, id_1=50 + n) for n in range(6)]
    without = bounds(fit(cases), 1)
    norms = fit([*cases, patient(id_1=-800)])
    low, high = bounds(norms, 1)
    assert low > without[0] - 10 and high < without[1] + 10
    group = norms.group_of(1)
    assert group is not None and group.low is not None
    assert "1 outliers left out" in group.low.source


def test_more_cases_need_less_margin() -> None:
    few = bounds(fit([patient(seed=n) for n in range(3)]), 1)
    many = bounds(fit([patient(seed=n) for n in range(12)]), 1)
    assert many[1] - many[0] < few[1] - few[0]


def test_organs_never_seen_keep_the_built_in_range() -> None:
    norms = fit(patient(seed=n) for n in range(3))
    assert norms.group_of(5) == load_norms().group_of(5)
    assert norms.group_of(12) == load_norms().group_of(12)


@pytest.mark.parametrize("cases", [0, 1, 2])
def test_too_few_cases_are_refused(cases: int) -> None:
    with pytest.raises(QualityError, match=f"{cases} usable cases"):
        fit(patient(seed=n) for n in range(cases))


def test_the_file_reads_back_and_states_its_origin(tmp_path: Path) -> None:
    norms = fit(patient(seed=n) for n in range(4))
    text = to_toml(norms)
    (tmp_path / "norms.toml").write_text(text, encoding="utf-8")
    assert load_norms(tmp_path / "norms.toml") == norms
    assert "fitted to 4 real scans" in norms.title
    assert "MAD" in norms.method
    assert "1 medians in 4 cases" not in text
    assert "4 medians in 4 cases" in text


def test_the_built_in_file_survives_writing(tmp_path: Path) -> None:
    (tmp_path / "norms.toml").write_text(to_toml(load_norms()), encoding="utf-8")
    assert load_norms(tmp_path / "norms.toml") == load_norms()
