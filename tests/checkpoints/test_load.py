"""Only tensors, every key, every shape: and nothing runs that a file brings along."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from synthct.checkpoints.load import load_into, read_metadata, read_tensors, write_tensors
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights, UsageError, WeightsError


class Small(nn.Module):
    """Weights, a saved buffer and one that is not saved."""

    ramp: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.out = nn.Conv3d(4, 1, 1)
        self.register_buffer("ramp", torch.linspace(0, 1, 5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(self.conv(x)))
        return y + self.ramp.mean()


@pytest.fixture
def source() -> Small:
    torch.manual_seed(3)
    return Small().eval()


@pytest.fixture
def saved(source: Small, tmp_path: Path) -> Path:
    write_tensors(tmp_path / "small.safetensors", source.state_dict(), {"note": "test"})
    return tmp_path / "small.safetensors"


def _pickled(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "small.pt")
    return tmp_path / "small.pt"


@pytest.mark.parametrize("container", ["safetensors", "pt"])
def test_a_loaded_network_computes_what_the_saved_one_did(
    container: str, source: Small, saved: Path, tmp_path: Path
) -> None:
    path = saved if container == "safetensors" else _pickled(tmp_path, source.state_dict())
    x = torch.randn(1, 1, 6, 6, 6)
    loaded = load_into(Small, path)
    assert not loaded.training
    assert not any(p.is_meta for p in [*loaded.parameters(), *loaded.buffers()])
    torch.testing.assert_close(loaded(x), source(x), rtol=0, atol=0)


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    torch.manual_seed(11)
    expected = torch.randn(3)
    torch.manual_seed(11)
    load_into(Small, saved)
    torch.testing.assert_close(torch.randn(3), expected, rtol=0, atol=0)


def test_half_storage_becomes_float32_and_integers_stay(source: Small, tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    write_tensors(tmp_path / "half.safetensors", half)
    loaded = load_into(Small, tmp_path / "half.safetensors")
    assert loaded.conv.weight.dtype == torch.float32
    assert loaded.norm.num_batches_tracked is not None
    assert loaded.norm.num_batches_tracked.dtype == torch.int64
    torch.testing.assert_close(loaded.conv.weight, half["conv.weight"].float())


def test_a_loaded_network_survives_its_file(saved: Path) -> None:
    loaded = load_into(Small, saved)
    before = loaded.conv.weight.clone()
    saved.write_bytes(b"\0" * saved.stat().st_size)
    torch.testing.assert_close(loaded.conv.weight, before, rtol=0, atol=0)


def test_metadata_is_read_back(saved: Path) -> None:
    assert read_metadata(saved) == {"note": "test"}


@pytest.mark.parametrize("container", ["safetensors", "pt"])
def test_one_renamed_key_is_named_twice(container: str, source: Small, tmp_path: Path) -> None:
    state = source.state_dict()
    state["conv.wait"] = state.pop("conv.weight")
    path = tmp_path / f"renamed.{container}"
    if container == "pt":
        torch.save(state, path)
    else:
        write_tensors(path, state)
    with pytest.raises(DamagedWeights) as caught:
        load_into(Small, path)
    assert "missing: conv.weight" in caught.value.message
    assert "unexpected: conv.wait" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_wrong_shape_says_both(source: Small, tmp_path: Path) -> None:
    state = source.state_dict()
    state["out.bias"] = torch.zeros(2)
    write_tensors(tmp_path / "shape.safetensors", state)
    with pytest.raises(DamagedWeights, match=r"out\.bias \[2\] instead of \[1\]"):
        load_into(Small, tmp_path / "shape.safetensors")


def test_many_missing_keys_are_counted(tmp_path: Path) -> None:
    write_tensors(tmp_path / "one.safetensors", {"conv.bias": torch.zeros(4)})
    with pytest.raises(DamagedWeights, match=r"… \(8 in all\)"):
        load_into(Small, tmp_path / "one.safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float, source: Small, tmp_path: Path) -> None:
    state = source.state_dict()
    state["out.bias"] = torch.tensor([bad])
    write_tensors(tmp_path / "nan.safetensors", state)
    with pytest.raises(DamagedWeights, match=r"out\.bias holds values that are not finite"):
        load_into(Small, tmp_path / "nan.safetensors")


@pytest.mark.parametrize("container", ["safetensors", "pt"])
@pytest.mark.parametrize("keep", [0, 5, 0.3, 0.9, -1])
def test_truncated_files_are_damaged(
    container: str, keep: float, source: Small, saved: Path, tmp_path: Path
) -> None:
    whole = saved if container == "safetensors" else _pickled(tmp_path, source.state_dict())
    content = whole.read_bytes()
    count = int(len(content) * keep) if isinstance(keep, float) else keep
    cut = tmp_path / f"cut.{container}"
    cut.write_bytes(content[:count])
    with pytest.raises(DamagedWeights):
        load_into(Small, cut)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 16]}},
    ],
)
def test_a_header_that_lies_is_damage(header: object, tmp_path: Path) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "lies.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 16)
    with pytest.raises(DamagedWeights):
        read_tensors(path)


def test_a_header_longer_than_the_file_is_damage(tmp_path: Path) -> None:
    (tmp_path / "long.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(DamagedWeights):
        read_tensors(tmp_path / "long.safetensors")


class _Touch:
    """A pickle that would create a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(
    protocol: int, tmp_path: Path
) -> None:
    trap = tmp_path / "ran"
    path = tmp_path / "hostile.pt"
    torch.save({"conv.weight": _Touch(trap)}, path, pickle_protocol=protocol)
    with pytest.raises(UnsafeWeights) as caught:
        load_into(Small, path)
    assert not trap.exists()
    assert "mkdir" in caught.value.message
    assert caught.value.exit_code == 6


def test_a_name_hidden_in_the_memo_is_still_refused(tmp_path: Path) -> None:
    """STACK_GLOBAL with names fetched from the memo: the reading of opcodes alone could miss it."""
    trap = tmp_path / "ran"
    call = pickle.SHORT_BINUNICODE + b"\x02os" + pickle.MEMOIZE
    call += pickle.SHORT_BINUNICODE + b"\x05mkdir" + pickle.MEMOIZE
    call += pickle.SHORT_BINUNICODE + b"\x0ctorch._utils" + pickle.POP
    call += pickle.SHORT_BINUNICODE + b"\x12_rebuild_tensor_v2" + pickle.POP
    call += pickle.BINGET + b"\0" + pickle.BINGET + b"\x01" + pickle.STACK_GLOBAL
    name = str(trap).encode()
    call += pickle.SHORT_BINUNICODE + bytes([len(name)]) + name + pickle.TUPLE1 + pickle.REDUCE
    path = tmp_path / "memo.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("memo/data.pkl", b"\x80\x04" + call + b".")
        archive.writestr("memo/version", "3\n")
        archive.writestr("memo/byteorder", "little")
    with pytest.raises(UnsafeWeights):
        read_tensors(path)
    assert not trap.exists()


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(_Touch(trap)))
    with pytest.raises(UnsafeWeights, match="bare pickle"):
        read_tensors(tmp_path / "bare.pt")
    assert not trap.exists()


def test_a_whole_module_is_refused(source: Small, tmp_path: Path) -> None:
    with pytest.raises(UnsafeWeights, match="wants to run code"):
        read_tensors(_pickled(tmp_path, source))


def test_an_archive_that_unfolds_is_refused(source: Small, tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save({"conv.weight": torch.zeros(1 << 20)}, whole)
    bomb = tmp_path / "bomb.pt"
    with (
        zipfile.ZipFile(whole) as source_zip,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in source_zip.infolist():
            packed.writestr(member.filename, source_zip.read(member))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UnsafeWeights, match="would unfold"):
        read_tensors(bomb)


def test_a_tensor_larger_than_its_memory_is_refused(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(1 << 40)
    with pytest.raises(UnsafeWeights, match="more than the file holds"):
        read_tensors(_pickled(tmp_path, {"conv.weight": huge}))


def test_a_nested_checkpoint_is_no_flat_state_dict(source: Small, tmp_path: Path) -> None:
    nested = {"unet_state_dict": source.state_dict(), "scale_factor": 1.0}
    with pytest.raises(DamagedWeights, match="under unet_state_dict"):
        read_tensors(_pickled(tmp_path, nested))


def test_a_link_out_of_the_folder_is_refused(saved: Path, tmp_path: Path) -> None:
    inner = tmp_path / "model"
    inner.mkdir()
    (inner / "vae.safetensors").symlink_to(saved)
    with pytest.raises(UnsafeWeights, match="leads out"):
        load_into(Small, inner / "vae.safetensors")
    assert load_into(Small, inner / "vae.safetensors", within=tmp_path)


def test_a_link_within_the_folder_is_followed(saved: Path) -> None:
    (saved.parent / "last.safetensors").symlink_to(saved.name)
    assert load_into(Small, saved.parent / "last.safetensors")


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pt"])
def test_what_is_not_there_is_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights):
        read_tensors(tmp_path / name)


def test_a_folder_or_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "weights.txt").write_text("1 2 3", encoding="utf-8")
    for name in ("folder.safetensors", "weights.txt"):
        with pytest.raises(WeightsError):
            read_tensors(tmp_path / name)


def test_writing_is_whole_or_not_at_all(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(UsageError):
        write_tensors(saved, {"a": torch.zeros(1)})
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_tied_and_strided_tensors_are_written(tmp_path: Path) -> None:
    shared = torch.arange(12.0).reshape(3, 4)
    path = tmp_path / "tied.safetensors"
    write_tensors(path, {"a": shared, "b": shared, "c": shared.T})
    read = read_tensors(path)
    torch.testing.assert_close(read["b"], shared)
    torch.testing.assert_close(read["c"], shared.T)
