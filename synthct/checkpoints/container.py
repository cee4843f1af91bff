"""The layouts in which weights are published, opened: tensors, and the latents' scale.

| layout | content |
|---|---|
| plain | key → tensor |
| `unet_state_dict` | the tensors under this key, `scale_factor` beside it |
| `controlnet_state_dict` | the tensors under this key; may leave out what the U-Net shares |

Whatever else stands beside them (epoch, loss) is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from synthct.checkpoints.pickled import flat_tensors, open_content
from synthct.errors import DamagedWeights

PLAIN = "plain"
NESTED = ("unet_state_dict", "controlnet_state_dict")
SCALE_FACTOR = "scale_factor"
SKIP = "skip"
SAFETENSORS = ".safetensors"
PICKLED_SUFFIXES = (".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Container:
    """An opened file. Its tensors may lie on the mapped file: copy what is to be kept."""

    layout: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    """What a safetensors header says; `scale_factor` whatever the container."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(tensor.shape) for key, tensor in self.tensors.items()}


def open_container(path: Path) -> Container:
    """Open a `.safetensors` or `.pt` file, running nothing of what it asks for.

    Raises:
        DamagedWeights: truncated, a header that lies, no layout of the table.
        UnsafeWeights: a pickle that wants to run code, an archive that unfolds to more than it is.
    """
    if path.suffix == SAFETENSORS:
        return _open_safetensors(path)
    if path.suffix not in PICKLED_SUFFIXES:
        raise DamagedWeights(
            f"{path} is no weights file: .safetensors or {', '.join(PICKLED_SUFFIXES)} are read"
        )
    return _unpacked(path, open_content(path))


def _open_safetensors(path: Path) -> Container:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return Container(PLAIN, tensors, dict(file.metadata() or {}))
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise damaged(path, error) from error


def _unpacked(path: Path, content: object) -> Container:
    if isinstance(content, dict):
        for layout in NESTED:
            if isinstance(content.get(layout), dict):
                tensors = flat_tensors(path, content[layout])
                return Container(layout, tensors, _scale(path, content))
    return Container(PLAIN, flat_tensors(path, content), {})


def _scale(path: Path, content: Mapping[object, object]) -> dict[str, str]:
    stated = content.get(SCALE_FACTOR)
    if stated is None:
        return {}
    if isinstance(stated, Tensor) and stated.numel() == 1:
        stated = stated.item()
    if isinstance(stated, bool) or not isinstance(stated, (int, float)):
        raise DamagedWeights(f"{path} states a {SCALE_FACTOR} that is no number")
    return {SCALE_FACTOR: repr(float(stated))}


def damaged(path: Path, error: Exception) -> DamagedWeights:
    """The error that a reader's complaint about `path` becomes."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DamagedWeights(
        f"{path} ({path.stat().st_size} bytes) is damaged: {reason}", "fetch or copy the file again"
    )
