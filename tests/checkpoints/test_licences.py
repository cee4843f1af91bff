"""A licence is shown once; a non-commercial one is accepted once, whatever is done first."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthct.checkpoints import catalogue
from synthct.checkpoints.licences import require_licence
from synthct.errors import LicenceNotAccepted

CT, MR = catalogue.entry("maisi-ct-rflow"), catalogue.entry("maisi-mr-rflow")


def test_shown_once_per_licence(caches: Path) -> None:
    assert CT.licence_url in str(require_licence(CT))
    assert require_licence(CT) is None
    assert require_licence(catalogue.entry("maisi-ct-ddpm")) is None


def test_a_noncommercial_one_waits_for_acceptance(caches: Path) -> None:
    for _ in range(2):
        with pytest.raises(LicenceNotAccepted) as caught:
            require_licence(MR)
        assert caught.value.exit_code == 6
    assert MR.licence in str(require_licence(MR, accept=True))
    assert require_licence(MR) is None


def test_a_broken_record_asks_again(caches: Path) -> None:
    require_licence(MR, accept=True)
    (caches / "synthct" / "licences.json").write_text("{", encoding="utf-8")
    with pytest.raises(LicenceNotAccepted):
        require_licence(MR)


def test_what_is_embedded_asks_for_nothing(caches: Path) -> None:
    assert require_licence(catalogue.entry()) is None
