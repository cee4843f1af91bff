"""The lists that `check` holds weights against are those of the networks."""

from __future__ import annotations

import pytest

from synthct.models.maisi import tensors
from synthct.models.maisi.spec import preset
from tests.contracts.tensor_lists import lists, presets, tensors_in_networks


def test_the_lists_are_up_to_date() -> None:
    for file, text in lists().items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run `make tensor-lists`"


@pytest.mark.parametrize("name", presets())
def test_a_list_reads_back_as_the_networks_have_it(name: str) -> None:
    assert tensors.tensors_of(name) == tensors_in_networks(preset(name))


def test_a_list_of_another_spec_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = presets()[0]
    monkeypatch.setattr(tensors, "preset", lambda _: preset("tiny"))
    assert tensors.tensors_of(name) is None


def test_networks_without_a_list_have_none() -> None:
    assert tensors.tensors_of("tiny") is None
