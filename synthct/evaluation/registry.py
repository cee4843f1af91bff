"""Which metrics there are, by the word on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synthct.errors import UsageError
from synthct.evaluation.agreement_metric import AgreementMetric
from synthct.evaluation.artefacts_metric import ArtefactsMetric
from synthct.evaluation.diversity import Discrepancy, MultiScaleSsim
from synthct.evaluation.fidelity import Frechet, Kernel
from synthct.evaluation.leakage_metric import LeakageMetric
from synthct.evaluation.metric import Metric, Settings
from synthct.evaluation.texture_metric import TextureMetric


@dataclass(frozen=True)
class Registered:
    """A metric's word, what it tells, how it is built, whether it runs unasked, its options."""

    name: str
    tells: str
    build: Callable[[Settings], Metric]
    default: bool = True
    options: tuple[str, ...] = ()


METRICS: tuple[Registered, ...] = (
    Registered("fid", "Fréchet distance of slice features, three planes", Frechet.from_settings),
    Registered("kid", "kernel distance of slice features, unbiased", Kernel.from_settings),
    Registered(
        "ms-ssim",
        "likeness of pairs: diversity",
        MultiScaleSsim.from_settings,
        options=("side", "spacing_mm", "pairs", "variants"),
    ),
    Registered(
        "mmd",
        "discrepancy of whole volumes, linear and RBF",
        Discrepancy.from_settings,
        options=("side", "spacing_mm"),
    ),
    Registered(
        "texture",
        "figures that tell a CT from a painted label map",
        TextureMetric.from_settings,
        options=("spacing_mm",),
    ),
    Registered(
        "artefacts",
        "seams, slices that do not follow, noise, HU histogram",
        ArtefactsMetric.from_settings,
    ),
    Registered(
        "agreement",
        "organs and thresholds against the mask; Dice with --segmenter",
        AgreementMetric.from_settings,
    ),
    Registered(
        "leakage",
        "copies of training cases, membership",
        LeakageMetric.from_settings,
        options=("features",),
    ),
)


def chosen(names: Sequence[str], settings: Settings) -> tuple[Metric, ...]:
    """The metrics called `names`, in that order; `all`, or none named: those that run unasked.

    Raises:
        UsageError: a word that names no metric, an option that no metric has.
    """
    _require_known_options(settings)
    known = {metric.name: metric for metric in METRICS}
    unknown = [name for name in names if name not in known and name != "all"]
    if unknown:
        raise UsageError(
            f"no metric {', '.join(map(repr, unknown))}", f"metrics: {', '.join(known)}"
        )
    if not names:
        picked = [metric for metric in METRICS if metric.default]
    elif "all" in names:
        picked = list(METRICS)
    else:
        picked = [known[name] for name in dict.fromkeys(names)]
    return tuple(metric.build(settings) for metric in picked)


def _require_known_options(settings: Settings) -> None:
    """A mistyped option would leave its metric at the default without a word."""
    known = [f"{metric.name}.{key}" for metric in METRICS for key in metric.options]
    strangers = [key for key in settings.options if key not in known]
    if strangers:
        raise UsageError(f"no option {strangers[0]!r}", f"options: {', '.join(known)}")
