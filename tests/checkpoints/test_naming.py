"""Names and shapes: what fits, what is translated, and that nothing else passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthct.checkpoints.naming import MisfitWeights, fit

PATH = Path("some.pt")
ATTENTION = {
    f"mid.attention.attn.{name}.{kind}": shape
    for name in ("to_q", "to_k", "to_v", "out_proj")
    for kind, shape in (("weight", (8, 8)), ("bias", (8,)))
}


def _older(wanted: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {
        key.replace(".attn.out_proj.", ".proj_attn.").replace(".attn.", "."): shape
        for key, shape in wanted.items()
    }


def test_the_same_keys_fit_as_they_are() -> None:
    how = fit(ATTENTION, ATTENTION, PATH)
    assert dict(how.source) == {key: key for key in ATTENTION}
    assert (how.renamed, how.copied, how.idle) == (0, {}, ())


def test_older_attention_is_translated() -> None:
    how = fit(ATTENTION, _older(ATTENTION), PATH)
    assert how.source["mid.attention.attn.to_q.weight"] == "mid.attention.to_q.weight"
    assert how.source["mid.attention.attn.out_proj.bias"] == "mid.attention.proj_attn.bias"
    assert how.renamed == len(ATTENTION)


def test_a_projection_that_no_network_uses_is_left_out_and_named() -> None:
    wanted = {key: shape for key, shape in ATTENTION.items() if "out_proj" not in key}
    how = fit(wanted, _older(ATTENTION), PATH)
    assert how.idle == ("mid.attention.proj_attn.bias", "mid.attention.proj_attn.weight")
    with pytest.raises(MisfitWeights, match=r"unexpected: elsewhere\.proj_attn\.bias"):
        fit(wanted, {**wanted, "elsewhere.proj_attn.bias": (8,)}, PATH)


@pytest.mark.parametrize(
    ("today", "older"),
    [
        ("up.0.upsampler.postconv.conv.weight", "up.0.upsampler.conv.conv.weight"),
        (
            "down.2.transformer_blocks.0.attn1.out_proj.bias",
            "down.2.transformer_blocks.0.attn1.to_out.0.bias",
        ),
    ],
)
def test_upsampling_and_cross_attention_are_translated(today: str, older: str) -> None:
    assert fit({today: (4,)}, {older: (4,)}, PATH).source == {today: older}


def test_a_key_that_is_there_under_both_names_is_one_too_many() -> None:
    both = {**ATTENTION, **_older(ATTENTION)}
    with pytest.raises(MisfitWeights, match="unexpected"):
        fit(ATTENTION, both, PATH)


def test_every_mismatch_is_named() -> None:
    wanted = {f"layer.{n}": (n,) for n in range(1, 21)}
    found = {f"layer.{n}": (n + 1,) for n in range(1, 6)} | {f"other.{n}": (1,) for n in range(9)}
    with pytest.raises(MisfitWeights) as caught:
        fit(wanted, found, PATH)
    every = caught.value.mismatches
    assert [len(every[k]) for k in ("missing", "unexpected", "of another shape")] == [15, 9, 5]
    assert "… (15 in all)" in caught.value.message
    assert caught.value.as_dict()["mismatches"] == every
    assert (caught.value.exit_code, caught.value.kind) == (6, "DamagedWeights")


def test_a_controlnet_takes_from_its_unet_what_it_leaves_out() -> None:
    wanted = {"conv_in.weight": (4,), "block.time.weight": (8, 2), "controlnet_mid.weight": (4,)}
    own = {"controlnet_mid.weight": (4,), "block.time.weight": (8, 2)}
    unet = {"conv_in.weight": (4,), "block.time.weight": (8, 4), "out.weight": (9,)}
    how = fit(wanted, own, PATH, unet)
    assert dict(how.copied) == {"conv_in.weight": "conv_in.weight"}
    with pytest.raises(MisfitWeights, match=r"missing: block\.time\.weight"):
        fit(wanted, {"controlnet_mid.weight": (4,)}, PATH, unet)
    with pytest.raises(MisfitWeights, match=r"missing: block\.time\.weight, conv_in\.weight"):
        fit(wanted, {"controlnet_mid.weight": (4,)}, PATH)
