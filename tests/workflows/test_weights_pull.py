"""`weights pull` from outside: licence, record, pins, and a machine without network."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.pulled import read_pulled
from synthct.cli.main import main
from synthct.errors import (
    DamagedWeights,
    LicenceNotAccepted,
    MissingWeights,
    OfflineError,
    UsageError,
)
from synthct.workflows.progress import SilentProgress
from synthct.workflows.weights import show
from synthct.workflows.weights_pull import pull
from tests.checkpoints.hub_server import COMMIT, LATER_COMMIT, Hub

CT, MR, BRAIN, MASKS = (
    "maisi-ct-rflow",
    "maisi-mr-rflow",
    "maisi-mr-brain-rflow",
    "maisi-mask-generator",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class _Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def _serve(hub: Hub, name: str) -> None:
    """Something of a checkpoint's kind under every published path of the model."""
    entry = catalogue.entry(name)
    for file in (*entry.hub.values(), *entry.data.values()):
        hub.files[file.repo, file.path] = f"PK of {file.path}".encode()


def test_a_model_is_fetched_recorded_and_found(hub: Hub) -> None:
    _serve(hub, CT)
    entry = catalogue.entry(CT)
    assert show(CT)["revisions"] == {}
    with pytest.raises(MissingWeights) as caught:
        store.locate(entry)
    assert f"weights pull {CT}" in caught.value.hint
    result = pull(CT)
    assert set(result["files"]) == {"vae", "unet", "controlnet"}
    record = read_pulled(CT).files["unet"]
    content = hub.files[entry.hub["unet"].repo, entry.hub["unet"].path]
    assert record.sha256 == hashlib.sha256(content).hexdigest()
    assert record.revision == COMMIT
    found = store.locate(entry)
    assert found.files["unet"].read_bytes() == content
    assert found.within("unet") in found.files["unet"].parents
    assert show(CT)["present"] is True
    assert show(CT)["revisions"] == {entry.hub["unet"].repo: COMMIT}
    assert show(CT)["sha256"]["unet"] == record.sha256


def test_the_first_commit_is_kept_to_until_another_is_asked_for(hub: Hub) -> None:
    _serve(hub, CT)
    pull(CT)
    hub.move_on({key: content + b" later" for key, content in hub.files.items()})
    hub.log.clear()
    pull(CT)
    assert hub.log == []
    pull(CT, revision="main")
    assert {file.revision for file in read_pulled(CT).files.values()} == {LATER_COMMIT}


def test_all_files_of_a_repository_come_from_one_commit(hub: Hub) -> None:
    _serve(hub, CT)
    pull(CT)
    asked = [path.split("/")[4] for _, path, _ in hub.log]
    assert asked[0] == "main"
    assert set(asked[2:]) <= {COMMIT}


def test_files_of_two_repositories(hub: Hub) -> None:
    _serve(hub, BRAIN)
    files = pull(BRAIN)["files"]
    assert files["vae"]["repo"] == "nvidia/NV-Generate-CT"
    assert files["unet"]["repo"] == "nvidia/NV-Generate-MR-Brain"
    assert store.locate(catalogue.entry(BRAIN)).files.keys() == {"vae", "unet"}


def test_a_shared_file_is_fetched_once(hub: Hub) -> None:
    _serve(hub, CT)
    _serve(hub, BRAIN)
    pull(CT)
    pull(BRAIN)
    vae = [path for path, _ in hub.fetched() if path.endswith("autoencoder_v1.pt")]
    assert len(vae) == 1


def test_tables_beside_the_weights(hub: Hub) -> None:
    _serve(hub, MASKS)
    entry = catalogue.entry(MASKS)
    pull(MASKS)
    assert store.data_file(entry, "organ-sizes").read_bytes().startswith(b"PK of datasets/all_anat")
    with pytest.raises(MissingWeights, match="candidate-masks"):
        store.data_file(entry, "candidate-masks")
    pull(MASKS, data=True)
    assert store.data_file(entry, "candidate-masks").is_file()


def test_the_licence_is_shown_once(hub: Hub) -> None:
    _serve(hub, CT)
    lines = _Lines()
    pull(CT, progress=lines)
    assert [line for line in lines.lines if "NVIDIA Open Model License" in line] != []
    again = _Lines()
    pull(CT, progress=again)
    assert again.lines == []


def test_a_noncommercial_licence_is_accepted_once(hub: Hub) -> None:
    _serve(hub, MR)
    with pytest.raises(LicenceNotAccepted, match="forbids commercial use") as caught:
        pull(MR)
    assert "--accept-license" in caught.value.hint
    assert hub.log == []
    pull(MR, accept_license=True)
    assert pull(MR)["files"].keys() == {"vae", "unet"}


def test_a_pull_that_broke_off_keeps_what_it_had(hub: Hub) -> None:
    _serve(hub, CT)
    unet = catalogue.entry(CT).hub["unet"]
    content = hub.files.pop((unet.repo, unet.path))
    with pytest.raises(MissingWeights, match=r"diff_unet_3d_rflow-ct\.pt"):
        pull(CT)
    assert set(read_pulled(CT).files) == {"vae"}
    hub.files[unet.repo, unet.path] = content
    assert set(pull(CT)["files"]) == {"vae", "unet", "controlnet"}


def test_a_changed_file_in_the_cache_is_noticed(hub: Hub) -> None:
    _serve(hub, CT)
    pull(CT)
    blob = read_pulled(CT).files["vae"].location.resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"PK of something else")
    with pytest.raises(DamagedWeights, match="sha256 begins"):
        store.verify(catalogue.entry(CT))
    pull(CT)
    assert "mismatch" not in {check.status for check in store.check(catalogue.entry(CT))}


def test_what_is_embedded_is_not_fetched(hub: Hub) -> None:
    with pytest.raises(UsageError, match="nothing is to be fetched"):
        pull(catalogue.DEFAULT_MODEL)


def test_the_command_speaks_plainly(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    _serve(hub, CT)
    assert main(["weights", "pull", CT]) == 0
    text = capsys.readouterr()
    assert "is here" in text.out
    assert "licence of maisi-ct-rflow" in text.err
    assert main(["weights", "pull", CT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]["vae"]["revision"] == COMMIT
    assert main(["weights", "pull", MR]) == 6
    assert len(capsys.readouterr().err.strip().splitlines()) <= 3
    hub.gated = "token"
    assert main(["weights", "pull", BRAIN]) == 6
    assert "HF_TOKEN" in capsys.readouterr().err


def _offline(tmp_path: Path, **variables: str) -> tuple[int, str, float]:
    """Exit code, stderr and seconds of a pull on a machine without the hub."""
    environment = {k: v for k, v in os.environ.items() if k not in _PROXIES} | {
        "SYNTHCT_HOME": str(tmp_path / "s"),
        "HF_HOME": str(tmp_path / "h"),
        **variables,
    }
    code = "import sys; from synthct.cli.main import main; sys.exit(main(sys.argv[1:]))"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, "weights", "pull", BRAIN],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    return done.returncode, done.stderr, time.monotonic() - started


def _silent_port() -> socket.socket:
    """A port that takes connections into its queue and never says a word."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(1)
    return silent


@pytest.mark.parametrize("how", ["told so", "nobody listens", "no such host", "never answers"])
def test_offline_with_a_cold_cache_says_within_seconds_what_to_run_elsewhere(
    how: str, tmp_path: Path
) -> None:
    with _silent_port() as silent:
        address = {
            "told so": {"HF_HUB_OFFLINE": "1"},
            "nobody listens": {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "no such host": {"HF_ENDPOINT": "http://hub.invalid"},
            "never answers": {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"},
        }[how]
        code, text, seconds = _offline(tmp_path, **address)
    assert code == 6
    assert "hf download nvidia/NV-Generate-CT models/autoencoder_v1.pt" in text
    assert "hf download nvidia/NV-Generate-MR-Brain" in text
    assert f"weights import {BRAIN} --as {BRAIN}" in text
    lines = [line for line in text.splitlines() if not line.startswith("licence of")]
    assert len(lines) <= 3
    assert seconds < 5 + _start_up()


def _start_up() -> float:
    """What starting takes on this machine, now: it may be busy with something else."""
    code = "import huggingface_hub as f, synthct.workflows.weights_pull; "
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", f"{code} f.get_session()"], check=True)
    return time.monotonic() - started


def test_a_connection_that_is_refused_is_no_bug(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OfflineError, match="cannot be reached"):
        pull(CT)
