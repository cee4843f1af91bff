"""Where weights lie, and that a changed byte is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from synthct.checkpoints import store
from synthct.checkpoints.catalogue import entry
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights

ENTRY = entry()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the model's files, with checksums."""
    lines = []
    for role, name in ENTRY.files.by_role().items():
        save_file({role: np.zeros(3, dtype=np.float16)}, tmp_path / name)
        lines.append(f"{_sha256(tmp_path / name)}  {name}")
    (tmp_path / store.CHECKSUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_whole_files_verify(folder: Path) -> None:
    found = store.verify(ENTRY, folder)
    assert set(found.files) == {"vae", "unet", "controlnet"}
    assert found.sha256()["vae"] == _sha256(folder / "vae.safetensors")
    assert {c.status for c in store.check(ENTRY, folder)} == {"ok"}


def test_a_changed_byte_is_damage(folder: Path) -> None:
    content = bytearray((folder / "unet.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "unet.safetensors").write_bytes(content)
    with pytest.raises(DamagedWeights, match=r"unet\.safetensors"):
        store.verify(ENTRY, folder)
    assert [c.status for c in store.check(ENTRY, folder)] == ["ok", "mismatch", "ok"]


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "vae.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"vae\.safetensors not found") as caught:
        store.verify(ENTRY, folder)
    assert caught.value.exit_code == 6
    assert store.check(ENTRY, folder)[0].status == "missing"


def test_an_empty_file_is_damage(folder: Path) -> None:
    (folder / "vae.safetensors").write_bytes(b"")
    with pytest.raises(DamagedWeights, match="empty"):
        store.locate(ENTRY, folder)


def test_without_checksums_the_files_are_unlisted(folder: Path) -> None:
    (folder / store.CHECKSUMS).unlink()
    assert {c.status for c in store.check(ENTRY, folder)} == {"unlisted"}
    store.verify(ENTRY, folder)


def test_a_file_of_checksums_that_is_none(folder: Path) -> None:
    (folder / store.CHECKSUMS).write_text("abc  vae.safetensors\n", encoding="utf-8")
    with pytest.raises(DamagedWeights, match="line 1"):
        store.verify(ENTRY, folder)


def test_the_catalogue_outranks_the_folder(folder: Path) -> None:
    strict = ENTRY.model_copy(update={"sha256": {"vae": "0" * 64}})
    assert store.check(strict, folder)[0].status == "mismatch"


def test_the_option_may_name_the_folder_above(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    inner = tmp_path / "all" / ENTRY.name
    inner.mkdir()
    assert store.folder_of(ENTRY, tmp_path / "all") == inner
    assert store.folder_of(ENTRY, folder) == folder


def test_the_cache_follows_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path / "home"))
    assert store.cache_folder() == tmp_path / "home"
    monkeypatch.delenv("SYNTHCT_HOME")
    assert "synthct" in str(store.cache_folder())


def test_embedded_weights_do_not_move_with_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHCT_HOME", "elsewhere")
    assert "elsewhere" not in str(store.folder_of(ENTRY))
    hub = ENTRY.model_copy(update={"source": "owner/name", "name": "other"})
    assert store.folder_of(hub) == Path("elsewhere") / "other"


def test_a_link_out_of_the_folder_is_refused_as_the_loader_will(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    for name in ENTRY.files.by_role().values():
        (inner / name).symlink_to(folder / name)
    with pytest.raises(UnsafeWeights, match="leads out of its folder"):
        store.verify(ENTRY, inner)
    assert {c.status for c in store.check(ENTRY, inner)} == {"outside"}
