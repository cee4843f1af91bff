"""PyTorch's own files (`.pt`): a zip archive with a pickle, read for its tensors alone.

Files from before PyTorch 1.6 are five pickles in a row, then the numbers: read by the same rules.
Nothing in a file is believed before it is checked: what its members claim to unfold to, which
names its pickle asks for, and how large each tensor says it is. Numbers that NumPy wrote (a loss,
beside the weights) are passed over unread.
"""

from __future__ import annotations

import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor
from torch.serialization import safe_globals

from synthct.checkpoints.store import is_old_layout
from synthct.errors import DamagedWeights, UnsafeWeights

_TENSOR_MODULES = ("torch", "torch._utils", "torch._tensor", "torch.storage")
_TENSOR_NAMES = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch", "Size"),
}
_NUMPY_NUMBER = (
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "dtype"),
)
_NUMPY_HELPERS = {("_codecs", "encode")}
_OLD_PICKLES = 5  # magic number, version, machine, content, keys of the numbers
_MAX_PICKLE_BYTES = 64 << 20  # the published models' pickles stay under 1 MiB
_NO_CODE = "only tensors are ever loaded; ask its author for safetensors"


class _Unread:
    """Stands where a NumPy number stood: holds nothing, does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def open_pickled(path: Path) -> dict[str, Tensor]:
    """Every tensor of a flat state dict, without running anything that the file asks for.

    The tensors may lie on the mapped file: copy what is to be kept.

    Raises:
        DamagedWeights: truncated, no archive, or something else than a dictionary of tensors.
        UnsafeWeights: asks for code, or unfolds to more than it is.
    """
    return flat_tensors(path, open_content(path))


def open_content(path: Path) -> object:
    """Whatever the archive holds, built of tensors, numbers, text and plain containers alone.

    Raises as `open_pickled`.
    """
    old = is_old_layout(path)
    (_check_old if old else _check_archive)(path)
    try:
        with warnings.catch_warnings(), safe_globals(_stand_ins()):
            warnings.simplefilter("ignore")  # advice to developers; a refusal is said by us
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=not old)
    except pickle.UnpicklingError as error:
        raise UnsafeWeights(f"{path} asks for more than tensors", _NO_CODE) from error
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise DamagedWeights(f"{path} is damaged and cannot be read") from error


def _check_archive(path: Path) -> None:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(path, members, size)
            for member in members:
                if member.filename.endswith(".pkl"):
                    _check_pickle(path, archive.read(member))
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise _no_archive(path) from error


def _check_old(path: Path) -> None:
    """Every pickle of a file in the old layout, by its opcodes; the numbers after them are none."""
    with open(path, "rb") as file:
        try:
            for _ in range(_OLD_PICKLES):
                _check_pickle(path, file)
        except ValueError as error:  # an opcode that is none, or the file's end
            raise DamagedWeights(f"{path} is damaged and cannot be read") from error
        if file.tell() > _MAX_PICKLE_BYTES:
            raise UnsafeWeights(f"{path} holds pickles of {file.tell()} bytes", _NO_CODE)


def _check_sizes(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    """PyTorch stores its members unpacked: whatever would unfold is not a file of weights."""
    unfolded = sum(member.file_size for member in members)
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or unfolded > size:
        raise UnsafeWeights(
            f"{path} of {size} bytes would unfold to {unfolded} bytes",
            "PyTorch does not pack its files; fetch the file again from a source you trust",
        )
    largest = max((m.file_size for m in members if m.filename.endswith(".pkl")), default=0)
    if largest > _MAX_PICKLE_BYTES:
        raise UnsafeWeights(f"{path} holds a pickle of {largest} bytes", _NO_CODE)


def _check_pickle(path: Path, content: bytes | IO[bytes]) -> None:
    for module, name in _asked_for(content):
        if not _harmless(module, name):
            raise UnsafeWeights(f"{path} wants to run code: {module}.{name}", _NO_CODE)


def _asked_for(content: bytes | IO[bytes]) -> Iterator[tuple[str, str]]:
    """Names that a pickle would import, found by reading its opcodes and running none."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            yield module, name
        elif opcode.name == "STACK_GLOBAL":
            module, name = strings[-2:] if len(strings) > 1 else ("?", "?")
            yield module, name
        elif opcode.name.startswith("EXT"):
            yield "copyreg", f"extension {argument}"
        elif isinstance(argument, str):
            strings.append(argument)


def _stand_ins() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    return [(_Unread, f"{module}.{name}") for module, name in _NUMPY_NUMBER]


def _harmless(module: str, name: str) -> bool:
    if (module, name) in {*_TENSOR_NAMES, *_NUMPY_NUMBER, *_NUMPY_HELPERS}:
        return True
    storage = module in _TENSOR_MODULES and name.endswith("Storage")
    return storage or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype))


def flat_tensors(path: Path, content: object) -> dict[str, Tensor]:
    """`content` as a flat dictionary of plain tensors, no larger than what stands behind them.

    Raises:
        DamagedWeights: it is none.
        UnsafeWeights: a tensor claims more than the file holds.
    """
    if not isinstance(content, dict):
        raise DamagedWeights(f"{path} holds a {type(content).__name__}, not a state dict")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise DamagedWeights(
            f"{path} holds more than tensors under: {', '.join(others[:4])}",
            "a flat state dict is read",
        )
    return {str(key): _plain(path, str(key), value) for key, value in content.items()}


def _plain(path: Path, key: str, tensor: Tensor) -> Tensor:
    """The tensor, once it is no larger than the memory that stands behind it."""
    if tensor.is_sparse or tensor.is_quantized:
        raise DamagedWeights(f"{path}: {key} is sparse or quantised; plain tensors are read")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UnsafeWeights(
            f"{path}: {key} claims {tuple(tensor.shape)}, more than the file holds", _NO_CODE
        )
    return tensor.detach()


def _no_archive(path: Path) -> DamagedWeights | UnsafeWeights:
    with open(path, "rb") as file:
        start = file.read(1)
    if start == b"\x80":
        return UnsafeWeights(f"{path} is a bare pickle, which could run code", _NO_CODE)
    return DamagedWeights(f"{path} is truncated, or no file of weights", "fetch the file again")
