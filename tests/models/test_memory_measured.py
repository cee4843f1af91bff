"""Predicted peaks against the measured growth of RssAnon, each in a fresh process."""

from __future__ import annotations

import sys

import pytest

from benchmarks.memory import Precision, Stage, run_fresh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="RssAnon is read from /proc, as Linux has it"
    ),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", ["sample", "decode"])
@pytest.mark.parametrize(
    ("model", "size"), [("mini-ct", (128, 128, 128)), ("middle", (256, 256, 192))]
)
def test_the_predicted_peak_is_the_measured_one(
    model: str, size: tuple[int, int, int], stage: Stage, precision: Precision
) -> None:
    """Within 15 % or 200 MiB: networks and stage, from when the libraries are imported."""
    one = run_fresh(model, stage, size, precision)
    assert one.agrees, f"predicted {one.predicted / 2**20:.0f} MiB, {one.measured / 2**20:.0f} seen"


def test_a_budget_for_decoding_is_kept() -> None:
    """The smallest plan, measured: no more than predicted plus what the tolerance allows."""
    from synthct.models.maisi.plans import decode_minimum
    from synthct.models.maisi.spec import preset

    least = decode_minimum(preset("mini-ct").autoencoder, (64, 64, 64))
    one = run_fresh("mini-ct", "decode", (128, 128, 128), "float32", least)
    assert one.agrees
