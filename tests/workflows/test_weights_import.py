"""Files in each published layout become a model that computes what MONAI's loading computes."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from monai.networks.utils import copy_model_state
from torch import Tensor, nn

from synthct.checkpoints import catalogue, store
from synthct.checkpoints.entry import Entry, HubFile
from synthct.checkpoints.load import load_into, write_tensors
from synthct.checkpoints.naming import MisfitWeights
from synthct.cli.main import main
from synthct.errors import DamagedWeights, MissingWeights, UnsafeWeights, UsageError, WeightsError
from synthct.models.load import load_generator
from synthct.models.maisi import spec
from synthct.models.networks import networks_of
from synthct.workflows.generate import generate
from synthct.workflows.weights_import import import_weights
from synthct.workflows.weights_pull import pull
from synthct.workflows.weights_verify import verify
from tests.checkpoints.hub_server import Hub
from tests.checkpoints.published import (
    SCALE,
    random_networks,
    small_entries,
    small_presets,
    write_published,
)

KINDS = ("small-rflow", "small-ddpm")


@pytest.fixture(autouse=True)
def small_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue, with narrow models of the published architectures in the place of theirs."""
    mini = {catalogue.DEFAULT_MODEL: catalogue.entry()}
    entries = {**mini, **small_entries()}
    for name, value in small_presets().items():
        monkeypatch.setitem(spec.PRESETS, name, value)
    monkeypatch.setattr(catalogue, "entries", lambda: entries)
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path / "home"))


@pytest.fixture(params=KINDS)
def entry(request: pytest.FixtureRequest) -> Entry:
    return catalogue.entry(request.param)


def _loaded(entry: Entry) -> dict[str, nn.Module]:
    found = store.verify(entry)
    return {
        role: load_into(build, found.files[role], within=found.within(role))
        for role, build in networks_of(entry).items()
    }


def _by_monai(entry: Entry, folder: Path) -> dict[str, nn.Module]:
    """The reference's way: copy the U-Net into the ControlNet, then load what its file has."""
    files = {role: torch.load(folder / f.name, weights_only=False) for role, f in entry.hub.items()}
    built = {role: build().eval() for role, build in networks_of(entry).items()}
    built["vae"].load_state_dict(files["vae"])
    built["unet"].load_state_dict(files["unet"]["unet_state_dict"])
    copy_model_state(built["controlnet"], built["unet"].state_dict())
    built["controlnet"].load_state_dict(files["controlnet"]["controlnet_state_dict"], strict=False)
    return built


def _forward(entry: Entry, built: Mapping[str, nn.Module]) -> list[Tensor]:
    """One pass of every network on the same random input."""
    torch.manual_seed(5)
    specification = spec.preset(entry.name)
    latent = torch.randn(1, specification.autoencoder.latent_channels, 4, 4, 4)
    time = torch.tensor([300.0])
    told: dict[str, Tensor] = {"spacing_tensor": torch.tensor([[150.0, 150.0, 200.0]])}
    classes: dict[str, Tensor] = {}
    if specification.unet.num_class_embeds:
        classes["class_labels"] = torch.tensor([1])
    if specification.unet.regions:
        told["top_region_index_tensor"] = torch.tensor([[0.0, 100.0, 0.0, 0.0]])
        told["bottom_region_index_tensor"] = torch.tensor([[0.0, 0.0, 100.0, 0.0]])
    condition = torch.randint(0, 2, (1, 8, 8, 8, 8)).float()
    with torch.no_grad():
        down, middle = built["controlnet"](latent, time, condition, **classes)
        noise = built["unet"](
            latent,
            time,
            **told,
            **classes,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        )
        image = built["vae"].decode(latent)  # type: ignore[operator]
    return [*down, middle, noise, image]


def _equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert a.abs().max() > 0


def test_an_imported_model_computes_what_monai_loads(entry: Entry, tmp_path: Path) -> None:
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    result = import_weights(folder, entry.name)
    assert result["missing"] == []
    assert result["files"]["unet"]["layout"] == "unet_state_dict"
    assert result["files"]["controlnet"]["copied_from_unet"] > 0
    _equal(_forward(entry, _loaded(entry)), _forward(entry, _by_monai(entry, folder)))


def test_names_of_generativemodels_compute_the_same(entry: Entry, tmp_path: Path) -> None:
    built = random_networks(entry)
    folder = write_published(tmp_path / "older", entry, built, older=True)
    result = import_weights(folder, entry.name)
    assert result["files"]["unet"]["renamed"] > 0
    assert bool(result["files"]["unet"]["unused"]) is (entry.name == "small-ddpm")
    _equal(_forward(entry, _loaded(entry)), _forward(entry, built))


def test_older_names_load_as_monai_itself_translates_them(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "older", entry, random_networks(entry), older=True)
    import_weights(folder, entry.name)
    theirs = networks_of(entry)["unet"]().eval()
    old = torch.load(folder / entry.hub["unet"].name, weights_only=False)["unet_state_dict"]
    DiffusionModelUNet.load_old_state_dict(theirs, dict(old))  # type: ignore[arg-type]
    for key, value in _loaded(entry)["unet"].state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key], rtol=0, atol=0)


def test_the_files_of_the_zoo_bundle_are_told_by_what_they_hold(
    entry: Entry, tmp_path: Path
) -> None:
    """`maisi_ct_generative` has other file names, `models/` below, and whole ControlNets."""
    built = random_networks(entry)
    models = write_published(tmp_path / "bundle" / "models", entry, built)
    for role, name in (("vae", "autoencoder_epoch273.pt"), ("unet", "diff_unet_ckpt.pt")):
        (models / entry.hub[role].name).rename(models / name)  # type: ignore[index]
    (models / entry.hub["controlnet"].name).unlink()
    torch.save(
        {"controlnet_state_dict": built["controlnet"].state_dict()},
        models / "controlnet_current.pt",
    )
    result = import_weights(tmp_path / "bundle", "zoo", model=entry.name)
    assert result["files"]["vae"]["file"] == "autoencoder_epoch273.pt"
    assert result["files"]["controlnet"]["copied_from_unet"] == 0
    own = catalogue.entry("zoo")
    assert (own.base, own.source) == (entry.name, "imported")
    _equal(_forward(entry, _loaded(own)), _forward(entry, built))


def test_which_model_it_is_shows_in_the_files(entry: Entry, tmp_path: Path) -> None:
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    assert import_weights(folder, "mine")["model"] == entry.name


def test_the_scale_factor_travels(entry: Entry, tmp_path: Path) -> None:
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    import_weights(folder, "mine")
    generator = load_generator("mine", None, torch.device("cpu"))
    assert generator.scale_factor == pytest.approx(SCALE, rel=1e-6)  # type: ignore[attr-defined]


@pytest.mark.parametrize("skip", [True, False])
def test_what_a_unet_gives_of_the_velocity_travels(skip: bool, tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = tmp_path / "own"
    folder.mkdir()
    for role, network in random_networks(entry).items():
        said = {"scale_factor": "1.0", **({"skip": "true"} if skip else {})}
        write_tensors(folder / f"{role}.safetensors", network.state_dict(), said)
    import_weights(folder, "mine", model=entry.name)
    generator = load_generator("mine", None, torch.device("cpu"))
    assert generator.spec.skip == skip  # type: ignore[attr-defined]


def test_file_by_file_in_any_number_of_calls(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    names = {role: folder / file.name for role, file in entry.hub.items()}
    first = import_weights(names["vae"], "mine", model=entry.name)
    assert first["missing"] == ["controlnet", "unet"]
    with pytest.raises(MissingWeights):
        store.verify(catalogue.entry("mine"))
    import_weights(names["unet"], "mine")
    assert import_weights(names["controlnet"], "mine")["missing"] == []
    assert verify(["mine"])["passed"] is True


def test_published_files_work_where_they_lie(entry: Entry, tmp_path: Path) -> None:
    """`--weights DIR` of a folder of published files, converted by nobody."""
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    ours = load_generator(entry.name, folder, torch.device("cpu"))
    theirs = _by_monai(entry, folder)
    networks = {"vae": ours.autoencoder, "unet": ours.unet, "controlnet": ours.controlnet}  # type: ignore[attr-defined]
    _equal(_forward(entry, networks), _forward(entry, theirs))


def test_pulled_files_are_loaded_where_the_hub_keeps_them(
    entry: Entry, hub: Hub, tmp_path: Path
) -> None:
    """Straight from the hub's cache: no conversion, no second copy."""
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    for file in entry.hub.values():
        hub.files[file.repo, file.path] = (folder / file.name).read_bytes()
    pull(entry.name)
    assert verify([entry.name])["models"][entry.name][1]["status"] == "ok"
    ours = load_generator(entry.name, None, torch.device("cpu"))
    assert ours.scale_factor == pytest.approx(SCALE, rel=1e-6)  # type: ignore[attr-defined]
    networks = {"vae": ours.autoencoder, "unet": ours.unet, "controlnet": ours.controlnet}  # type: ignore[attr-defined]
    _equal(_forward(entry, networks), _forward(entry, _by_monai(entry, folder)))
    assert list(store.cache_folder().rglob("*.safetensors")) == []


def test_generate_runs_with_an_import_by_either_name(entry: Entry, tmp_path: Path) -> None:
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    import_weights(folder, "mine")
    words = {"size": (32, 32, 32), "spacing_mm": (3.0, 3.0, 3.0), "steps": 1, "retries": 0}
    sampler = "ddim" if entry.sampler == "ddpm" else None
    by_name = generate(model="mine", sampler=sampler, output=tmp_path / "a", **words)
    by_weights = generate(
        model=entry.name, weights=Path("mine"), sampler=sampler, output=tmp_path / "b", **words
    )
    one, other = by_name.cases[0].volume, by_weights.cases[0].volume
    assert one is not None
    assert other is not None
    assert (one.array == other.array).all()
    assert one.array.std() > 0


def test_generate_follows_a_mask_with_an_import(tmp_path: Path, small_mask: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    import_weights(folder, "mine")
    report = generate(
        small_mask,
        model="mine",
        spacing_mm=(5.0, 5.0, 5.0),
        steps=1,
        retries=0,
        output=tmp_path / "out",
    )
    case = report.cases[0]
    assert case.volume is not None
    assert case.sidecar is not None
    assert case.sidecar.model.name == "mine"
    assert case.sidecar.model.licence == entry.licence


def test_a_second_import_needs_leave(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    import_weights(folder, "mine")
    with pytest.raises(UsageError, match="overwritten unasked"):
        import_weights(folder, "mine")
    write_published(folder, entry, random_networks(entry, seed=1))
    import_weights(folder, "mine", overwrite=True)
    assert verify(["mine"])["passed"] is True


def test_every_mismatch_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = catalogue.entry("small-rflow")
    built = random_networks(entry)
    folder = write_published(tmp_path / "models", entry, built)
    state = {f"x.{key}": value for key, value in built["vae"].state_dict().items()}
    torch.save(state, folder / entry.hub["vae"].name)
    with pytest.raises(MisfitWeights) as caught:
        import_weights(folder, "mine", model=entry.name)
    every = caught.value.mismatches
    assert len(every["vae: missing"]) == len(every["vae: unexpected"]) == len(state)
    command = ["weights", "import", str(folder), "--as", "mine", "--model", entry.name]
    assert main([*command, "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["error"]["mismatches"] == every
    assert main([*command, "-v"]) == 6
    assert capsys.readouterr().err.count("missing: ") >= len(state)
    assert not (store.cache_folder() / "mine").exists()


def test_the_files_of_another_model_are_told_apart(tmp_path: Path) -> None:
    other = catalogue.entry("small-ddpm")
    folder = write_published(tmp_path / "models", other, random_networks(other))
    with pytest.raises(WeightsError):
        import_weights(folder, "small-rflow")


@pytest.mark.parametrize("name", ["small-rflow", "mine"])
@pytest.mark.parametrize("content", ["empty", "text", "absent", "another network"])
def test_an_empty_or_wrong_folder_is_exit_6(
    content: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    if content != "absent":
        folder.mkdir()
    if content == "text":
        (folder / "readme.txt").write_text("weights", encoding="utf-8")
    if content == "another network":
        torch.save({"layer.weight": torch.zeros(3)}, folder / "model.pt")
    assert main(["weights", "import", str(folder), "--as", name]) == 6
    assert len(capsys.readouterr().err.strip().splitlines()) <= 3


def test_a_folder_that_lacks_a_file_names_it(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    (folder / entry.hub["controlnet"].name).unlink()
    with pytest.raises(MissingWeights, match="controlnet") as caught:
        import_weights(folder, "mine", model=entry.name)
    assert entry.hub["controlnet"].name in caught.value.hint


def test_a_renamed_file_with_a_wrong_key_says_which(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    content = torch.load(folder / entry.hub["unet"].name, weights_only=False)
    state = content["unet_state_dict"]
    state["conv_in.wait"] = state.pop("conv_in.conv.weight")
    torch.save(content, folder / "my_unet.pt")
    (folder / entry.hub["unet"].name).unlink()
    with pytest.raises(
        MisfitWeights, match=r"my_unet\.pt .* missing: conv_in\.conv\.weight"
    ) as caught:
        import_weights(folder, "mine", model=entry.name)
    assert caught.value.mismatches["unet: unexpected"] == ["conv_in.wait"]


def test_a_unet_without_its_scale_is_refused(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    built = random_networks(entry)
    folder = write_published(tmp_path / "models", entry, built)
    torch.save(built["unet"].state_dict(), folder / entry.hub["unet"].name)
    with pytest.raises(DamagedWeights, match="states no scale_factor"):
        import_weights(folder, "mine", model=entry.name)


def test_a_noncommercial_licence_holds_for_files_at_hand_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = catalogue.entry("small-rflow").model_copy(update={"noncommercial": True})
    monkeypatch.setattr(catalogue, "entries", lambda: {own.name: own})
    folder = write_published(tmp_path / "models", own, random_networks(own))
    command = ["weights", "import", str(folder), "--as", own.name]
    assert main(command) == 6
    assert main([*command, "--accept-license"]) == 0


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["hostile", "truncated", "bomb", "outside"])
def test_what_is_not_safe_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    unet = folder / entry.hub["unet"].name
    if kind == "hostile":
        torch.save({"unet_state_dict": {}, "epoch": _Trap(tmp_path / "ran")}, unet)
    elif kind == "truncated":
        unet.write_bytes(unet.read_bytes()[:-5000])
    elif kind == "bomb":
        _pack(unet)
    else:
        unet.rename(tmp_path / "unet.pt")
        unet.symlink_to(tmp_path / "unet.pt")
    assert main(["weights", "import", str(folder), "--as", "mine", "--json"]) == 6
    assert not (tmp_path / "ran").exists()
    assert not (store.cache_folder() / "mine").exists()
    expected = "DamagedWeights" if kind == "truncated" else "UnsafeWeights"
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == expected


def _pack(path: Path) -> None:
    """The same archive, packed: what it unfolds to is not what it is."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)


def test_a_link_as_the_only_file_is_followed_no_further(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "there.pt").write_bytes(b"x")
    (tmp_path / "inner" / "link.pt").symlink_to(tmp_path / "there.pt")
    with pytest.raises(UnsafeWeights, match="leads out"):
        import_weights(tmp_path / "inner" / "link.pt", "mine", model="small-rflow")


@pytest.mark.parametrize("name", ["maisi-mini-ct", "../up", "Big", ""])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        import_weights(tmp_path, name)


def test_verify_notices_a_changed_byte_and_another_networks_file(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    import_weights(folder, "mine")
    assert verify(["mine"])["models"]["mine"][0]["tensors"] > 0
    home = store.cache_folder() / "mine"
    (home / store.CHECKSUMS).unlink()
    (home / "vae.safetensors").write_bytes((home / "controlnet.safetensors").read_bytes())
    with pytest.raises(MisfitWeights, match="vae"):
        verify(["mine"])


def test_files_of_the_oldest_layout_are_taken_over(tmp_path: Path) -> None:
    entry = catalogue.entry("small-rflow")
    folder = write_published(tmp_path / "models", entry, random_networks(entry))
    for path in folder.iterdir():
        content = torch.load(path, weights_only=False)
        torch.save(content, path, _use_new_zipfile_serialization=False)
    result = import_weights(folder, "mine", model="small-rflow")
    assert result["missing"] == []
    assert {check.status for check in store.check(catalogue.entry("mine"))} == {"ok"}


def test_the_table_of_organ_sizes_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `hf download` lays the repository out: models/ and datasets/."""
    entry = catalogue.entry("small-rflow")
    repo = "nvidia/NV-Generate-CT"
    known = {
        "organ-sizes": HubFile(repo=repo, path="datasets/all_anatomy_size_conditions.json"),
        "candidate-masks": HubFile(repo=repo, path="datasets/all_masks.zip", optional=True),
    }
    monkeypatch.setitem(catalogue.entries(), entry.name, entry.model_copy(update={"data": known}))
    write_published(tmp_path / "hub" / "models", entry, random_networks(entry))
    for file in known.values():
        (tmp_path / "hub" / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / "hub" / file.path).write_text("[]", encoding="utf-8")
    for place in ("hub", "hub/models"):
        name = place.replace("/", "-")
        result = import_weights(tmp_path / place, name, model=entry.name)
        assert result["data"] == [known["organ-sizes"].name], "and none of the large ones"
        assert (
            store.data_file(catalogue.entry(name), "organ-sizes").read_text(encoding="utf-8")
            == "[]"
        )
