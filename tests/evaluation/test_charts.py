from __future__ import annotations

import re
from xml.etree import ElementTree

from synthct.evaluation.charts import distributions
from synthct.evaluation.metric import Row


def _rows() -> list[Row]:
    made = [Row(f"r{n}", "real", {"hu": 50.0 + n, "ml": None}, group="liver") for n in range(3)]
    made += [Row(f"s{n}", "synthetic", {"hu": 90.0 + n}, group="liver") for n in range(2)]
    made += [Row("r0", "real", {"hu": -800.0}, group="lung <left>")]
    return [*made, Row("r0", "real", {"distance": 1.0})]


def test_one_chart_a_key_one_line_a_group() -> None:
    (chart,) = distributions(_rows())  # rows without a group are not drawn
    texts = [node.text or "" for node in ElementTree.fromstring(chart).iter("text")]
    assert [texts[i] for i in (0, 1, 3)] == ["hu", "liver", "lung <left>"]
    low, high = (float(end) for end in texts[2].split(" to "))
    assert (low + high) / 2 == 70.5 and low <= 50 and high >= 91
    circles = re.findall(r'<circle cx="([\d.]+)"[^>]*fill="(#\w+)"', chart)
    assert len(circles) == 6
    liver = [(float(x), colour) for x, colour in circles[:5]]
    real = [x for x, colour in liver if colour == "#2563a8"]
    synthetic = [x for x, colour in liver if colour == "#d9730d"]
    assert real == sorted(real) and max(real) < min(synthetic)


def test_a_difference_that_means_nothing_stays_small() -> None:
    rows = [Row("a", "real", {"hu": 50.0}, group="liver")]
    rows += [Row("a", "synthetic", {"hu": 50.5}, group="liver")]
    rows += [Row("a", "real", {"hu": -800.0}, group="lung")]
    (chart,) = distributions(rows)
    first, second = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', chart)[:2])
    assert 0 < second - first < 15
