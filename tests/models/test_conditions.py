"""What the networks are told is what the published models were told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from synthct.models.maisi.conditions import conditions, label_bits
from synthct.models.maisi.guidance import without_lesions
from synthct.models.maisi.spec import preset


def test_label_bits_write_the_id_in_binary_lowest_bit_first() -> None:
    ids = np.array([0, 1, 2, 132, 200, 255], dtype=np.uint8).reshape(6, 1, 1)
    bits = label_bits(ids)
    assert bits.shape == (1, 8, 6, 1, 1)
    values = sum(bits[0, k, :, 0, 0].int() << k for k in range(8))
    assert torch.equal(torch.as_tensor(values), torch.tensor([0, 1, 2, 132, 200, 255]).int())


def test_regions_are_one_hot_from_the_top_down() -> None:
    spec = preset("ct-ddpm")
    told = conditions(spec, regions=("abdomen", "chest"), spacing_mm=(1.0, 2.0, 3.0))
    assert told.top_region is not None and told.bottom_region is not None
    assert told.top_region.tolist() == [[0, 100, 0, 0]]
    assert told.bottom_region.tolist() == [[0, 0, 100, 0]]
    assert told.spacing.tolist() == [[100, 200, 300]]
    assert told.modality_class is None


def test_a_model_with_classes_is_told_no_regions() -> None:
    told = conditions(preset("ct-rflow"), regions=("chest",), spacing_mm=(1.0, 1.0, 1.0))
    assert told.top_region is None
    assert told.modality_class is not None and told.modality_class.tolist() == [1]


def test_no_known_region_is_a_zero_vector() -> None:
    spec = replace(preset("mini-ct"), condition_scale=1.0)
    told = conditions(spec, regions=(), spacing_mm=(2.0, 2.0, 2.0))
    assert told.top_region is not None and not told.top_region.any()


def test_lesions_become_the_organ_they_grow_in() -> None:
    labels = np.array([26, 24, 27, 116, 117, 23, 28, 32, 32, 1], dtype=np.uint8)
    healthy = without_lesions(labels)
    assert healthy.tolist() == [1, 4, 62, 14, 5, 32, 28, 32, 32, 1]
