"""Do files of weights hold what the networks need? Told by their headers alone. No torch.

`check` refuses here what `generate` would refuse when it loads the networks.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.naming import fit
from synthct.checkpoints.store import Weights
from synthct.errors import DamagedWeights, UnsafeWeights
from synthct.models.maisi.tensors import Shapes, tensors_of

SAFETENSORS = ".safetensors"
SCALE_FACTOR = "scale_factor"
SKIP = "skip"
_HEAD_BYTES = 1 << 20
_JSON_AT = 8  # a safetensors file begins with the length of its JSON header, 8 bytes
_ZIP = b"PK\x03\x04"


def refuse_disguised(weights: Weights) -> None:
    """Refuse what can run code when it is opened, under whatever name it comes.

    Raises:
        UnsafeWeights: a pickle, or PyTorch's archive of one, called `.safetensors`.
    """
    for path in weights.files.values():
        if path.suffix == SAFETENSORS and _is_pickle(path):
            raise UnsafeWeights(
                f"{path} is no safetensors file but a pickle, which could run code: refused",
                "only tensors are ever loaded; ask its author for safetensors",
            )


def require_fitting(entry: Entry, weights: Weights) -> None:
    """Hold keys and shapes in the headers of `weights` against the networks, as the loader does.

    Says nothing of files that are no safetensors, and of networks without a list of tensors.

    Raises:
        DamagedWeights: a key too few, too many or of another shape, no usable scale factor, or a
            header that cannot be read.
    """
    wanted = tensors_of(str(entry.network.get("spec"))) if entry.family == "maisi" else None
    for role, path in weights.files.items():
        if path.suffix != SAFETENSORS:
            continue
        shapes, metadata = read_header(path)
        if wanted is not None and role in wanted:
            fit(wanted[role], shapes, path)
        if entry.family == "maisi" and role == "unet":
            scale_factor(metadata, path)


def scale_factor(metadata: Mapping[str, str], unet: Path) -> float:
    """The number that latents were multiplied with in training: it travels with the U-Net.

    Raises:
        DamagedWeights: the metadata of the file `unet` states none, or one that cannot be.
    """
    stated = metadata.get(SCALE_FACTOR, "")
    try:
        factor = float(stated)
    except ValueError:
        factor = 0.0
    if not 1e-6 < factor < 1e6:
        raise DamagedWeights(
            f"{unet} states no usable {SCALE_FACTOR} ({stated!r})", "train or fetch it again"
        )
    return factor


def skips(metadata: Mapping[str, str]) -> bool:
    """Whether a U-Net was trained to give what `linear_share` leaves of the velocity.

    A file that does not say so gives all of it, as the published ones do.
    """
    return metadata.get(SKIP) == "true"


def read_header(path: Path) -> tuple[Shapes, dict[str, str]]:
    """Key → shape, and the text metadata, of a safetensors file.

    Raises:
        DamagedWeights: truncated, or a header that lies.
    """
    try:
        with safe_open(path, framework="np") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            return shapes, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise DamagedWeights(
            f"{path} ({path.stat().st_size} bytes) is no whole safetensors file",
            "fetch or copy the file again",
        ) from error


def _is_pickle(path: Path) -> bool:
    """By the opcodes at its beginning; none of them is run."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[_JSON_AT : _JSON_AT + 1] == b"{":
        return False
    return head.startswith(_ZIP) or _reads_as_pickle(head)


def _reads_as_pickle(head: bytes) -> bool:
    """Whether it begins as pickles of protocol 2 and later do, or is a whole one of an earlier."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    try:
        last = [opcode.name for opcode, _, _ in pickletools.genops(io.BytesIO(head))][-1]
    except Exception:  # whatever bytes that are no pickle make the reader stumble over
        return False
    return last == "STOP"
