"""Batches to the device that trains on them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch


def moved(batch: Any, device: torch.device) -> Any:
    """`batch` with every tensor in it on `device`: tensors, dataclasses, tuples, lists, dicts."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        parts = {f.name: moved(getattr(batch, f.name), device) for f in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **parts)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(moved(value, device) for value in batch)
    return batch
