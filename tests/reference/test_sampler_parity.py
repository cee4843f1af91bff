"""Whole sampling loops: ours against one written from MONAI's own networks and schedulers.

Narrow networks of the published layouts, the same noise, float32, the reference's time steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler
from torch import Tensor, nn

from synthct.errors import UsageError
from synthct.models.maisi.conditions import label_bits
from synthct.models.maisi.generator import MaisiGenerator
from synthct.models.maisi.guidance import branches, without_lesions
from synthct.models.maisi.sampling import noise_seed
from synthct.models.settings import Execution, Sampling
from synthct.workflows.guidance import Scales, cost_of
from synthct.workflows.samplers import require_compiler
from tests.models.small import narrow, pair

SHAPE = (32, 32, 32)
SPACING_MM = (1.0, 1.0, 2.5)
CLASS = 3
REGIONS = ("chest", "abdomen")
STEPS = 10
FLOAT32 = Execution("float32", 16)
AT_ONCE = replace(FLOAT32, together=True)


def _generator(name: str, *, mask: bool) -> MaisiGenerator:
    spec = narrow(name)
    unet, controlnet = pair(spec)
    with (
        torch.no_grad()
    ):  # a drift as small as that of trained networks, so that 30 steps stay sane
        for parameter in [*unet.parameters(), *controlnet.parameters()]:
            parameter.mul_(0.7)
    return MaisiGenerator(
        spec,
        nn.Identity(),  # type: ignore[arg-type]
        unet,  # type: ignore[arg-type]
        controlnet if mask else None,  # type: ignore[arg-type]
        1.0,
        torch.device("cpu"),
    )


def _labels() -> np.ndarray[Any, Any]:
    """Liver, hepatic tumour, colon and its tumour, in blocks."""
    rng = np.random.default_rng(5)
    blocks = rng.choice(np.array([0, 1, 26, 62, 27, 200], np.uint8), tuple(n // 8 for n in SHAPE))
    return np.kron(blocks, np.ones((8, 8, 8), np.uint8))


def _sampling(sampler: Any, steps: int, **words: Any) -> Sampling:
    words = {"modality_class": CLASS, "execution": FLOAT32, "reference_times": True, **words}
    return Sampling(seed=3, attempt=1, steps=steps, sampler=sampler, **words)


def _ours(generator: MaisiGenerator, sampling: Sampling, labels: Any) -> Tensor:
    return generator.latent(SHAPE, labels, SPACING_MM, sampling, REGIONS)


def _noise() -> Tensor:
    rng = np.random.default_rng([3, 1])
    return torch.from_numpy(rng.standard_normal((1, 4, 8, 8, 8), dtype=np.float32))


@dataclass
class Reference:
    """The published loop: a batch of two where it guides, one forward pass of each network."""

    generator: MaisiGenerator
    labels: Any
    scale: float

    def predict(self, latent: Tensor, timestep: Any) -> Tensor:
        times = 2 if self.scale else 1
        latents = torch.cat([latent] * times)
        time = torch.Tensor((timestep,)).repeat(times)
        words: dict[str, Any] = {"spacing_tensor": torch.tensor([SPACING_MM] * times) * 100}
        if self.generator.spec.unet.regions:
            for end, at in (("top", 1), ("bottom", 2)):
                vector = torch.zeros(times, 4)
                vector[:, at] = 100
                words[f"{end}_region_index_tensor"] = vector
        else:
            words["class_labels"] = torch.tensor([CLASS, 0][:times], dtype=torch.long)
        if self.generator.controlnet is not None:
            shown = [self.labels, without_lesions(self.labels)][:times]
            down, middle = self.generator.controlnet(
                x=latents,
                timesteps=time,
                controlnet_cond=torch.cat([label_bits(one) for one in shown]).float(),
                class_labels=words.get("class_labels"),
            )
            words["down_block_additional_residuals"] = down
            words["mid_block_additional_residual"] = middle
        out: Tensor = self.generator.unet(x=latents, timesteps=time, **words)
        if not self.scale:
            return out
        told, untold = out.chunk(2)
        return untold + self.scale * (told - untold)

    @torch.inference_mode()
    def rflow(self, latent: Tensor, steps: int) -> Tensor:
        scheduler = RFlowScheduler(
            num_train_timesteps=1000,
            use_discrete_timesteps=False,
            use_timestep_transform=True,
            sample_method="uniform",
            scale=1.4,
        )
        scheduler.set_timesteps(
            steps, input_img_size_numel=torch.prod(torch.tensor(latent.shape[2:]))
        )
        following = torch.cat([scheduler.timesteps[1:], torch.tensor([0], dtype=torch.float16)])
        for now, after in zip(scheduler.timesteps, following, strict=True):
            latent, _ = scheduler.step(self.predict(latent, now), now, latent, after)
        return latent

    @torch.inference_mode()
    def ddpm(self, latent: Tensor, steps: int, seed: int) -> Tensor:
        scheduler = DDPMScheduler(
            num_train_timesteps=1000,
            schedule="scaled_linear_beta",
            beta_start=0.0015,
            beta_end=0.0195,
            clip_sample=False,
        )
        scheduler.set_timesteps(steps)
        generator = torch.Generator().manual_seed(seed)
        for now in scheduler.timesteps:
            predicted = self.predict(latent, now)
            latent, _ = scheduler.step(predicted, now, latent, generator=generator)
        return latent


class AgainstNoMask(Reference):
    """The same loop, guided by the difference that the ControlNet makes."""

    def predict(self, latent: Tensor, timestep: Any) -> Tensor:
        told = Reference(self.generator, self.labels, 0.0).predict(latent, timestep)
        blind = replace(self.generator, controlnet=None)
        untold = Reference(blind, None, 0.0).predict(latent, timestep)
        return untold + self.scale * (told - untold)


def _distance(ours: Tensor, theirs: Tensor) -> float:
    assert torch.isfinite(theirs).all()
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("how", [FLOAT32, AT_ONCE], ids=["apart", "at once"])
@pytest.mark.parametrize("mask", [True, False], ids=["controlnet", "image-only"])
@pytest.mark.parametrize("scale", [0.0, 3.0], ids=["plain", "guided"])
def test_rectified_flow_ends_where_the_reference_ends(
    mask: bool, scale: float, how: Execution
) -> None:
    generator = _generator("ct-rflow", mask=mask)
    labels = _labels() if mask else None
    tumours = scale if mask else 0.0
    words = {"modality_guidance": scale, "tumor_guidance": tumours, "execution": how}
    sampling = _sampling("rflow", STEPS, **words)
    theirs = Reference(generator, labels, scale).rflow(_noise(), STEPS)
    assert _distance(_ours(generator, sampling, labels), theirs) <= 1e-5
    exact = replace(sampling, reference_times=False)
    assert _distance(_ours(generator, exact, labels), theirs) > 1e-4, "truncated steps show"


@pytest.mark.parametrize("how", [FLOAT32, AT_ONCE], ids=["apart", "at once"])
@pytest.mark.parametrize(("mask", "scale"), [(True, 0.0), (True, 3.0), (False, 0.0)])
def test_ddpm_ends_where_the_reference_ends(mask: bool, scale: float, how: Execution) -> None:
    generator = _generator("ct-ddpm", mask=mask)
    labels = _labels() if mask else None
    sampling = _sampling("ddpm", 4, tumor_guidance=scale, execution=how)
    theirs = Reference(generator, labels, scale).ddpm(_noise(), 4, noise_seed(sampling))
    assert _distance(_ours(generator, sampling, labels), theirs) <= 1e-5


@pytest.mark.parametrize("how", [FLOAT32, AT_ONCE], ids=["apart", "at once"])
def test_guidance_by_the_mask_is_against_the_unet_alone(how: Execution) -> None:
    generator, labels = _generator("ct-rflow", mask=True), _labels()
    sampling = _sampling("rflow", 4, mask_guidance=1.5, execution=how)
    theirs = AgainstNoMask(generator, labels, 1.5).rflow(_noise(), 4)
    assert _distance(_ours(generator, sampling, labels), theirs) <= 1e-5
    plain = _ours(generator, replace(sampling, mask_guidance=1.0), labels)
    assert _distance(plain, theirs) > 1e-3
    alone = _ours(generator, sampling, None)
    assert torch.equal(alone, _ours(generator, replace(sampling, mask_guidance=0.0), None))


@pytest.mark.parametrize(
    ("modality", "tumours", "mask", "calls"),
    [
        (0.0, 0.0, 0.0, 1),
        (1.0, 1.0, 1.0, 1),
        (1.0, 3.0, 0.0, 2),
        (3.0, 0.0, 1.0, 2),
        (3.0, 3.0, 0.0, 2),
        (4.0, 2.0, 0.0, 3),
        (0.0, 0.0, 1.5, 2),
        (0.0, 3.0, 1.5, 3),
        (1.5, 1.5, 1.5, 3),
        (1.5, 1.0, 1.5, 2),
        (4.0, 3.0, 2.0, 4),
    ],
)
def test_no_branch_is_run_that_changes_nothing(
    modality: float, tumours: float, mask: float, calls: int
) -> None:
    generator = _generator("ct-rflow", mask=True)
    asked: list[nn.Module] = []
    generator.unet.out.register_forward_hook(lambda module, *_: asked.append(module))
    words = {"modality_guidance": modality, "tumor_guidance": tumours, "mask_guidance": mask}
    _ours(generator, _sampling("rflow", 1, **words), _labels())
    cost = cost_of(Scales(tumours, modality, mask))
    assert len(asked) == calls == cost.branches
    told = branches(_sampling("rflow", 1, **words), _labels())
    assert len({branch.lesions for branch in told if branch.mask}) == cost.masks
    assert len({branch.modality for branch in told}) == cost.modalities
    assert sum(not branch.mask for branch in told) == cost.blind


@pytest.mark.parametrize(
    ("modality", "tumours", "mask", "passes"),
    [
        (3.0, 0.0, 0.0, 2),
        (0.0, 3.0, 0.0, 1),
        (3.0, 3.0, 0.0, 2),
        (4.0, 2.0, 0.0, 2),
        (0.0, 0.0, 1.5, 1),
        (4.0, 2.0, 1.5, 2),
    ],
)
def test_branches_at_once_give_what_they_give_apart(
    modality: float, tumours: float, mask: float, passes: int
) -> None:
    """One pass for all, and one way down the U-Net for those that are told the same modality."""
    generator = _generator("ct-rflow", mask=True)
    words = {"modality_guidance": modality, "tumor_guidance": tumours, "mask_guidance": mask}
    apart = _ours(generator, _sampling("rflow", 3, **words), _labels())
    down, out = generator.unet.down_blocks[0], generator.unet.out
    counted: list[list[int]] = [[], []]
    down.register_forward_pre_hook(
        lambda _, args, kwargs: counted[0].append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    out.register_forward_pre_hook(lambda _, args: counted[1].append(len(args[0])))
    once = _ours(generator, _sampling("rflow", 3, execution=AT_ONCE, **words), _labels())
    assert _distance(once, apart) <= 1e-5
    assert counted == [[passes] * 3, [cost_of(Scales(tumours, modality, mask)).branches] * 3]


@pytest.mark.slow
def test_compiled_blocks_give_what_they_give_otherwise() -> None:
    try:
        require_compiler("cpu")
    except UsageError as error:
        pytest.skip(error.message)
    generator = _generator("ct-rflow", mask=True)
    sampling = _sampling("rflow", 1, tumor_guidance=3.0, execution=AT_ONCE)
    plain = _ours(generator, sampling, _labels())
    compiled = _ours(generator, replace(sampling, compile=True), _labels())
    assert _distance(compiled, plain) <= 1e-5


def test_a_mask_without_lesions_needs_no_second_branch() -> None:
    generator = _generator("ct-rflow", mask=True)
    labels = without_lesions(_labels())
    asked: list[nn.Module] = []
    generator.unet.out.register_forward_hook(lambda module, *_: asked.append(module))
    _ours(generator, _sampling("rflow", 1, tumor_guidance=5.0), labels)
    assert len(asked) == 1


def test_the_two_guidances_are_apart() -> None:
    generator, labels = _generator("ct-rflow", mask=True), _labels()
    ends = [
        _ours(generator, _sampling("rflow", 2, modality_guidance=m, tumor_guidance=t), labels)
        for m, t in ((0.0, 0.0), (4.0, 0.0), (0.0, 4.0), (4.0, 4.0), (4.0, 2.0))
    ]
    for n, one in enumerate(ends):
        assert all(_distance(one, other) > 1e-4 for other in ends[:n])
