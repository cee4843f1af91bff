"""Weights from disk into a network: only tensors, every key, every shape.

A file that wants to run code is refused unread. A network is built on the meta device and the
tensors are handed to it, so that memory holds one copy of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from synthct.atomic import replacing
from synthct.checkpoints.container import PLAIN, SAFETENSORS, Container, damaged, open_container
from synthct.checkpoints.naming import Fit, fit, require_same_keys
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights

__all__ = [
    "checked_path",
    "load_into",
    "read_metadata",
    "read_tensors",
    "require_same_keys",
    "wanted_by",
    "write_tensors",
]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def read_tensors(path: Path | str, *, within: Path | None = None) -> dict[str, Tensor]:
    """Every tensor of a `.safetensors` or `.pt` file, on the CPU, in the types they are stored in.

    Args:
        path: the file.
        within: folder that the file must lie in once links are followed; its own by default.

    Raises:
        MissingWeights: no such file.
        DamagedWeights: truncated, a header that lies, not a flat dictionary of tensors.
        UnsafeWeights: a pickle that wants to run code, an archive that unfolds to more than it
            is, a link out of the folder.
    """
    path = checked_path(Path(path), within)
    container = open_container(path)
    if container.layout != PLAIN:
        raise DamagedWeights(
            f"{path} holds more than tensors: they lie under {container.layout}",
            "a flat state dict is read",
        )
    mapped = container.tensors
    return {key: mapped.pop(key).clone().contiguous() for key in list(mapped)}


def read_metadata(path: Path | str, *, within: Path | None = None) -> dict[str, str]:
    """The text metadata in the header of a safetensors file; the scale factor of any other.

    Raises as `read_tensors`.
    """
    path = checked_path(Path(path), within)
    if path.suffix != SAFETENSORS:
        return open_container(path).metadata
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def write_tensors(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a safetensors file; it has its name only when complete.

    Raises:
        UsageError: it exists and `overwrite` is false.
        OutputError: the folder cannot be written, or the disk is full.
    """
    whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with replacing(path, overwrite=overwrite) as temporary:
        try:
            save_file(_unshared(whole), temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_into(
    module_factory: Callable[[], ModuleT],
    path: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    within: Path | None = None,
    copied_from: Path | None = None,
) -> ModuleT:
    """Build the network that `module_factory` makes, with the weights of `path`.

    Floating tensors are cast to `dtype` (files may store half), others keep their type. Buffers
    that the network does not save get the values that it gives them itself. The module comes
    back on the CPU, in evaluation mode.

    Args:
        module_factory: called under `torch.device("meta")`.
        path: a file in one of the layouts of `container.py`.
        dtype: of the floating tensors.
        within: folder that the file must lie in once links are followed; its own by default.
        copied_from: file of the U-Net whose encoder the network is a copy of: it gives what a
            published ControlNet leaves out.

    Raises:
        DamagedWeights: a key too few, too many or of another shape (the message names them), a
            value that is not finite, or what `read_tensors` raises.
    """
    path = checked_path(Path(path), within)
    with torch.device("meta"):
        module = module_factory()
    unsaved = _unsaved_buffers(module, module_factory)
    container = open_container(path)
    base = _base(container, copied_from, within)
    how = fit(wanted_by(module), container.shapes(), path, None if base is None else base.shapes())
    owned = {key: finite(key, tensor, dtype, path) for key, tensor in _chosen(how, container, base)}
    module.load_state_dict(owned, strict=True, assign=True)
    for name, value in unsaved.items():
        _set_buffer(module, name, value.to(dtype) if value.is_floating_point() else value)
    return module.eval()


def wanted_by(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of what the module saves."""
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def checked_path(path: Path, within: Path | None = None) -> Path:
    """`path` itself, once it is a file that does not lead out of its folder."""
    if not path.exists():
        reason = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise MissingWeights(f"{path} {reason}", "see `synthct weights where`")
    home = (within or path.parent).resolve()
    if not path.resolve().is_relative_to(home):
        raise UnsafeWeights(f"{path} is a link that leads out of {home}", "copy the file itself")
    if not path.is_file():
        raise DamagedWeights(f"{path} is not a file")
    return path


def _base(container: Container, copied_from: Path | None, within: Path | None) -> Container | None:
    """Our own files are whole; only published layouts leave anything out."""
    if copied_from is None or container.layout == PLAIN:
        return None
    return open_container(checked_path(copied_from, within))


def _chosen(how: Fit, container: Container, base: Container | None) -> Iterator[tuple[str, Tensor]]:
    """The network's tensors under its own names; each leaves the container, so one copy is held."""
    for key, old in how.source.items():
        yield key, container.tensors.pop(old)
    if base is not None:
        for key, old in how.copied.items():
            yield key, base.tensors[old]


def finite(key: str, tensor: Tensor, dtype: torch.dtype | None, path: Path) -> Tensor:
    """A copy of its own of `tensor`, floating values in `dtype` (None: as stored).

    Raises:
        DamagedWeights: NaN or infinity among them.
    """
    if not tensor.is_floating_point():
        return tensor.clone().contiguous()
    owned = tensor.to(dtype or tensor.dtype, copy=True).contiguous()
    if not torch.isfinite(owned).all():
        raise DamagedWeights(f"{path}: {key} holds values that are not finite")
    return owned


def _unsaved_buffers(module: nn.Module, factory: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Values of the buffers outside the state dict: from a network built, read and dropped."""
    saved = module.state_dict().keys()
    names = [name for name, _ in module.named_buffers() if name not in saved]
    if not names:
        return {}
    with torch.random.fork_rng(devices=[]):
        buffers = dict(factory().named_buffers())
    return {name: buffers[name].detach().cpu().clone() for name in names}


def _set_buffer(module: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module.get_submodule(owner).register_buffer(leaf, value, persistent=False)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tied weights get memory of their own: the format refuses tensors that share it."""
    seen: set[int] = set()
    out = {}
    for key, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        out[key] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return out
