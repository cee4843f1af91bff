"""Fetching for real, from a hub on loopback that breaks, lies and refuses."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from synthct.checkpoints import hub as fetching
from synthct.checkpoints.entry import HubFile
from synthct.checkpoints.hub import PARTIAL, fetch
from synthct.checkpoints.places import hub_cache, hub_repository
from synthct.errors import (
    DamagedWeights,
    LicenceNotAccepted,
    MissingWeights,
    OfflineError,
    OutputError,
)
from tests.checkpoints.hub_server import COMMIT, LATER_COMMIT, Hub

REPO, PATH = "nobody/weights", "models/vae.pt"
FILE = HubFile(repo=REPO, path=PATH)
CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def served(hub: Hub) -> Hub:
    hub.files[REPO, PATH] = CONTENT
    return hub


def _partial() -> Path:
    return hub_repository(REPO) / "blobs" / f"{SHA256}{PARTIAL}"


def test_a_file_lands_in_the_hubs_own_cache_and_nowhere_else(served: Hub, caches: Path) -> None:
    got = fetch(FILE)
    assert got.location.read_bytes() == CONTENT
    assert (got.revision, got.sha256, got.trust) == (COMMIT, SHA256, "hub")
    assert got.location.resolve() == hub_repository(REPO).resolve() / "blobs" / SHA256
    copies = [p for p in caches.rglob("*") if p.is_file() and p.stat().st_size == len(CONTENT)]
    assert {p.resolve() for p in copies} == {got.location.resolve()}


def test_huggingface_hub_finds_it_as_its_own(served: Hub) -> None:
    from huggingface_hub import try_to_load_from_cache

    got = fetch(FILE)
    found = try_to_load_from_cache(REPO, PATH, cache_dir=hub_cache(), revision=COMMIT)
    assert found == str(got.location)


def test_what_is_in_the_cache_is_not_fetched_again(served: Hub) -> None:
    fetch(FILE)
    served.log.clear()
    fetch(FILE, COMMIT)
    assert served.log == []
    fetch(FILE)  # a branch may have moved: asked for, and nothing fetched
    assert served.fetched() == []


def test_a_connection_cut_in_the_middle_goes_on_from_there(served: Hub) -> None:
    served.cut = [2_000_000, 1_000_000]
    told: list[int] = []
    got = fetch(FILE, progress=lambda done, total: told.append(done))
    assert got.location.read_bytes() == CONTENT
    starts = [wanted for _, wanted in served.fetched()]
    assert starts[0] is None
    assert len(starts) == 3
    assert int(str(starts[2])[6:-1]) > int(str(starts[1])[6:-1]) > 1_000_000
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


def test_the_next_run_goes_on_where_the_last_one_was_killed(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(done: int, total: int) -> None:
        if done > 2_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(FILE, progress=killed)
    there = _partial().stat().st_size
    assert 2_000_000 < there < len(CONTENT)
    served.log.clear()
    assert fetch(FILE).location.read_bytes() == CONTENT
    assert served.fetched()[-1][1] == f"bytes={there}-"
    assert not _partial().exists()


def test_a_server_that_knows_no_ranges_starts_over(served: Hub) -> None:
    served.cut, served.ignores_ranges = [2_000_000], True
    assert fetch(FILE).location.read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_any_more_is_given_up(served: Hub) -> None:
    served.cut = [1_000_000] + [0] * 20
    with pytest.raises(OfflineError, match="connection broke") as caught:
        fetch(FILE)
    assert caught.value.exit_code == 6
    assert "goes on from there" in caught.value.hint
    served.cut.clear()
    assert fetch(FILE).location.read_bytes() == CONTENT


def test_another_content_than_announced_is_not_kept(served: Hub) -> None:
    served.garbled = True
    with pytest.raises(DamagedWeights, match="sha256 begins") as caught:
        fetch(FILE)
    assert caught.value.exit_code == 6
    assert [p for p in hub_cache().rglob("*") if p.is_file() and p.stat().st_size] == []
    served.garbled = False
    assert fetch(FILE).sha256 == SHA256


def test_a_hub_that_sends_more_than_it_announced_is_cut_off(served: Hub) -> None:
    served.surplus = True
    with pytest.raises(DamagedWeights, match="bytes of"):
        fetch(FILE)
    assert not _partial().exists()


@pytest.mark.parametrize("etag", ["../../../evil", "..", "a/b"])
def test_a_name_that_leads_out_of_the_cache_is_refused(
    etag: str, served: Hub, caches: Path
) -> None:
    served.etag = etag
    with pytest.raises(OfflineError, match="is no hub"):
        fetch(FILE)
    assert list(caches.rglob("*evil*")) == []


def test_the_catalogue_outranks_the_hub(served: Hub) -> None:
    pinned = FILE.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DamagedWeights, match="it should begin 000000000000"):
        fetch(pinned)
    honest = FILE.model_copy(update={"sha256": SHA256})
    assert fetch(honest).trust == "catalogue"


def test_a_pinned_revision_is_fetched_though_the_branch_went_on(served: Hub) -> None:
    served.move_on({(REPO, PATH): CONTENT[::-1]})
    pinned = FILE.model_copy(update={"revision": COMMIT})
    assert fetch(pinned).sha256 == SHA256
    assert fetch(FILE).revision == LATER_COMMIT


def test_a_recorded_checksum_holds_at_the_same_commit(served: Hub) -> None:
    first = fetch(FILE)
    fetch(FILE, COMMIT, known=first)
    forged = first.model_copy(update={"sha256": "1" * 64})
    with pytest.raises(DamagedWeights, match="should begin 1111"):
        fetch(FILE, COMMIT, known=forged)


def test_a_cached_file_that_rotted_is_fetched_again(served: Hub) -> None:
    got = fetch(FILE)
    blob = got.location.resolve()
    blob.chmod(0o644)
    blob.write_bytes(CONTENT[:-1] + b"x")
    assert fetch(FILE, COMMIT).sha256 == SHA256
    assert got.location.read_bytes() == CONTENT


def test_a_gated_file_says_where_its_terms_are(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.gated = "good"
    for token in (None, "bad"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(LicenceNotAccepted, match=REPO) as caught:
            fetch(FILE)
        assert caught.value.exit_code == 6
        assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "good")
    assert fetch(FILE).sha256 == SHA256


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_is_ill_is_offline(status: int, served: Hub) -> None:
    served.status = status
    with pytest.raises(OfflineError):
        fetch(FILE)


def test_what_the_hub_has_not_is_missing(served: Hub) -> None:
    with pytest.raises(MissingWeights, match=r"other\.pt"):
        fetch(HubFile(repo=REPO, path="models/other.pt"))


class _FullDisk:
    """A file that takes some bytes, and then has no room."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> _FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, chunk: bytes) -> None:
        self.room -= len(chunk)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(chunk)


def _small_disk(path: Path, mode: str) -> _FullDisk:
    return _FullDisk(open(path, mode), 3_000_000)


def test_a_full_disk_is_said_and_the_next_run_goes_on(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthct.checkpoints import stream

    with monkeypatch.context() as patch:
        patch.setattr(stream, "open", _small_disk, raising=False)
        with pytest.raises(OutputError, match="is full") as caught:
            fetch(FILE)
    assert caught.value.exit_code == 3
    assert not (hub_repository(REPO) / "blobs" / SHA256).exists()
    assert 0 < _partial().stat().st_size < len(CONTENT)
    assert fetch(FILE).sha256 == SHA256
    assert served.fetched()[-1][1] is not None


def test_offline_the_cache_is_enough(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(FILE)
    served.log.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(FILE, COMMIT).sha256 == SHA256
    assert served.log == []
    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE"):
        fetch(HubFile(repo=REPO, path="models/other.pt"))


def test_a_small_file_without_a_checksum_is_trusted_once_and_held_to_it(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files outside the large-file storage bear no sha256 in their name."""
    served.plain_etags = True
    first = fetch(FILE)
    assert first.trust == "first use"
    assert first.sha256 == SHA256
    blob = first.location.resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"something else")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DamagedWeights):
        fetch(FILE, COMMIT, known=first)


def test_the_token_stays_with_the_hub(monkeypatch: pytest.MonkeyPatch, served: Hub) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "secret" in str(fetching._headers(f"{served.url}/a/b/resolve/main/c"))
    assert "secret" not in str(fetching._headers("https://cdn.example/signed"))
