"""Weights from disk into a network: only tensors, every key, every shape.

A file that wants to run code is refused unread. A network is built on the meta device and the
tensors are handed to it, so that memory holds one copy of the weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from synthct.atomic import replacing
from synthct.checkpoints.pickled import open_pickled
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights

PICKLED_SUFFIXES = (".pt", ".pth", ".ckpt")
_SHOWN = 4  # keys named in one message

Shapes = Mapping[str, tuple[int, ...]]
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
    mapped = _mapped_tensors(path)
    return {key: mapped.pop(key).clone().contiguous() for key in list(mapped)}


def read_metadata(path: Path | str, *, within: Path | None = None) -> dict[str, str]:
    """The text metadata in the header of a safetensors file. Raises as `read_tensors`."""
    path = checked_path(Path(path), within)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


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
) -> ModuleT:
    """Build the network that `module_factory` makes, with the weights of `path`.

    Floating tensors are cast to `dtype` (files may store half), others keep their type. Buffers
    that the network does not save get the values that it gives them itself. The module comes
    back on the CPU, in evaluation mode.

    Raises:
        DamagedWeights: a key too few, too many or of another shape (the message names them), a
            value that is not finite, or what `read_tensors` raises.
    """
    path = checked_path(Path(path), within)
    with torch.device("meta"):
        module = module_factory()
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    unsaved = _unsaved_buffers(module, module_factory)
    stored = _mapped_tensors(path, wanted)
    owned = {key: _finite(key, stored.pop(key), dtype, path) for key in list(stored)}
    module.load_state_dict(owned, strict=True, assign=True)
    for name, value in unsaved.items():
        _set_buffer(module, name, value.to(dtype) if value.is_floating_point() else value)
    return module.eval()


def require_same_keys(wanted: Shapes, found: Shapes, path: Path) -> None:
    """Raise DamagedWeights unless `found` has the keys and shapes of `wanted`, no more, no less."""
    complaints = [
        _name("missing", sorted(wanted.keys() - found.keys())),
        _name("unexpected", sorted(found.keys() - wanted.keys())),
        _name(
            "of another shape",
            (
                f"{key} {list(found[key])} instead of {list(wanted[key])}"
                for key in sorted(wanted.keys() & found.keys())
                if wanted[key] != found[key]
            ),
        ),
    ]
    if any(complaints):
        raise DamagedWeights(
            f"{path} does not fit the network: {'; '.join(c for c in complaints if c)}",
            "these are weights of another model or version",
        )


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


def _mapped_tensors(path: Path, wanted: Shapes | None = None) -> dict[str, Tensor]:
    """Tensors that may still lie on the mapped file; keys and shapes as `wanted`, where given."""
    if path.suffix == ".safetensors":
        return _map_safetensors(path, wanted)
    if path.suffix not in PICKLED_SUFFIXES:
        raise DamagedWeights(
            f"{path} is no weights file: .safetensors or {', '.join(PICKLED_SUFFIXES)} are read"
        )
    stored = open_pickled(path)
    if wanted is not None:
        require_same_keys(wanted, {k: tuple(v.shape) for k, v in stored.items()}, path)
    return stored


def _map_safetensors(path: Path, wanted: Shapes | None) -> dict[str, Tensor]:
    """Shapes are compared by the header, before any data is read."""
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            if wanted is not None:
                shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
                require_same_keys(wanted, shapes, path)
            return {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise _damaged(path, error) from error


def _finite(key: str, tensor: Tensor, dtype: torch.dtype, path: Path) -> Tensor:
    """A copy of its own of `tensor`, floating values in `dtype`."""
    if not tensor.is_floating_point():
        return tensor.clone().contiguous()
    owned = tensor.to(dtype, copy=True).contiguous()
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


def _name(what: str, keys: Iterable[str]) -> str:
    keys = list(keys)
    if not keys:
        return ""
    more = f", … ({len(keys)} in all)" if len(keys) > _SHOWN else ""
    return f"{what}: {', '.join(keys[:_SHOWN])}{more}"


def _damaged(path: Path, error: Exception) -> DamagedWeights:
    size = os.path.getsize(path)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DamagedWeights(
        f"{path} ({size} bytes) is damaged: {reason}", "fetch or copy the file again"
    )
