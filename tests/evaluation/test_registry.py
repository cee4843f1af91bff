"""Words and options of metrics: what is mistyped is told, never ignored."""

from __future__ import annotations

import pytest

from synthct.errors import UsageError
from synthct.evaluation.metric import Settings
from synthct.evaluation.registry import METRICS, chosen


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kid.foo", "1"),
        ("mmd.sides", "64"),
        ("side", "64"),
        ("mmd.side", "abc"),
        ("texture.spacing_mm", "coarse"),
        ("texture.spacing_mm", "0"),
        ("leakage.features", "maybe"),
        ("ms-ssim.variants", "my variants"),
    ],
)
def test_an_option_that_no_metric_has_or_takes_is_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=key.partition(".")[2] or key):
        chosen([], Settings(options={key: value}))


def test_options_that_are_known_are_taken() -> None:
    values = {"side": "64", "spacing_mm": "3", "pairs": "9", "variants": "correct"}
    known = {
        f"{metric.name}.{key}": values.get(key, "no")
        for metric in METRICS
        for key in metric.options
    }
    assert len(chosen([], Settings(options=known))) == sum(metric.default for metric in METRICS)
