"""The ranges are data: complete, sourced, and refused where they are malformed."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthct.errors import InputError
from synthct.labels.groups import ORGAN_GROUPS
from synthct.quality.norms import BUILT_IN, load_norms

GOOD = """
title = "mine"
[[group]]
name = "liver"
ids = [1]
low = { hu = 0, kind = "rule", source = "a" }
high = { hu = 100, kind = "rule", source = "b" }
"""


def test_every_maisi_structure_has_a_group() -> None:
    named = {id_ for ids in ORGAN_GROUPS.values() for id_ in ids}
    assert set(load_norms().ids()) == named


def test_every_bound_says_where_it_comes_from() -> None:
    for group in load_norms().group:
        if group.informational:
            assert group.low is None
            continue
        assert group.low is not None and group.high is not None
        for bound in (group.low, group.high):
            assert bound.kind in ("published", "literature", "rule")
            assert len(bound.source) > 10


@pytest.mark.parametrize(
    ("maisi_id", "median_hu", "accepted"),
    [
        (4, -9, True),  # ts-example: fatty pancreas
        (115, 328, True),  # lidc-0001: enhanced heart
        (110, 109, True),
        (111, 1264, True),  # lidc-0001: undiluted contrast in a brachiocephalic vein
        (97, 120, True),
        (22, -900, False),
        (1, 400, False),
        (32, 0, False),
        *((bone, 0, False) for bone in ORGAN_GROUPS["bone"]),
    ],
)
def test_known_medians(maisi_id: int, median_hu: float, accepted: bool) -> None:
    group = load_norms().group_of(maisi_id)
    assert group is not None and group.low is not None and group.high is not None
    assert (group.low.hu <= median_hu <= group.high.hu) is accepted


def test_a_file_of_the_same_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "n.toml").write_text(GOOD, encoding="utf-8")
    norms = load_norms(tmp_path / "n.toml")
    assert norms.title == "mine" and list(norms.ids()) == [1]
    assert load_norms(BUILT_IN) == load_norms()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "not TOML"),
        ("title = 'x'", "group"),
        (GOOD.replace("hu = 100", "hu = -5"), "not below"),
        (GOOD.replace("hu = 100", "hu = nan"), "finite"),
        (GOOD.replace("hu = 100", "hu = 'a'"), "number"),
        (GOOD.replace("ids = [1]", "ids = [0]"), "greater"),
        (GOOD.replace("ids = [1]", "ids = []"), "at least 1"),
        (GOOD.replace("ids = [1]", "ids = [1, 1]"), "id 1 stands"),
        (GOOD.replace('name = "liver"', 'name = "liver"\ncolour = 1'), "colour"),
        (GOOD.replace("low = ", "# low = "), "low and high"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "norms.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        load_norms(path)
    assert "\n" not in caught.value.message and str(path) in caught.value.message


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_norms(tmp_path / "none.toml")
    with pytest.raises(InputError):
        load_norms(tmp_path)
