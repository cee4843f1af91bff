"""Guidance: the usual formula, kept apart by condition, and no branch that changes nothing."""

from __future__ import annotations

import pytest
import torch

from synthct.diffusion.denoiser import Guided, apart
from synthct.diffusion.scales import within, worth_running


def _constant(value: float) -> torch.Tensor:
    return torch.full((1,), value)


def test_one_term_is_the_usual_formula() -> None:
    guided = Guided(apart([lambda x, t: x, lambda x, t: 2 * x]), [3.0])
    torch.testing.assert_close(guided(torch.ones(1), 0), _constant(4.0))


def test_terms_add_up_one_after_the_other() -> None:
    guided = Guided(apart([lambda x, t: x, lambda x, t: 2 * x, lambda x, t: 4 * x]), [10.0, 3.0])
    torch.testing.assert_close(guided(torch.ones(1), 0), _constant(1.0 + 10 * 1 + 3 * 2))


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ((0.0, 0.0), []),
        ((1.0, 0.0), []),
        ((10.0, 1.0), [(10.0, {"a"})]),
        ((0.0, 2.0), [(2.0, {"b"})]),
        ((2.0, 2.0), [(2.0, {"a", "b"})]),
        ((10.0, 2.0), [(10.0, {"a"}), (2.0, {"b"})]),
    ],
)
def test_only_what_changes_something_is_run(
    scales: tuple[float, float], expected: list[tuple[float, set[str]]]
) -> None:
    assert worth_running([("a", scales[0]), ("b", scales[1])]) == expected


def test_a_part_is_pushed_more_the_more_is_asked() -> None:
    """Lesions within a mask: a factor of its scale, and no value that stands apart."""
    asked = [0.5, 2 / 3, 0.999, 1.001, 1.2, 1.5, 3.0]
    found = [within(scale, 1.5) for scale in asked]
    assert found == sorted(found) and abs(found[2] - found[3]) < 0.01
    assert within(0.5, 2.0) not in (0.0, 1.0)
    assert [within(scale, 0.0) for scale in asked] == asked == [within(s, 1.0) for s in asked]
