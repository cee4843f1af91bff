"""The features of a case, slice by slice, kept under the hashes of all that they depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from synthct.evaluation.cache import FeatureCache
from synthct.evaluation.case import Case
from synthct.evaluation.extractors import Extractor, Features, load_extractor
from synthct.evaluation.metric import Conditions, Progress, Role, Settings, Study
from synthct.evaluation.slices import PLANES, SlicedCase, sliced

KIND = "features"


@dataclass(frozen=True)
class FeatureSource:
    """A feature network that is loaded when it is first needed, and its slices.

    Metrics that share one share its cached features too.
    """

    settings: Settings = field(default_factory=Settings)

    @cached_property
    def extractor(self) -> Extractor:
        chosen = self.settings
        given = {
            "spacing_mm": chosen.spacing_mm,
            "side": chosen.side,
            "share": chosen.share,
            "padded": chosen.padded,
        }
        known = {key: value for key, value in given.items() if value is not None}
        return load_extractor(chosen.features, chosen.feature_options, known, chosen.device)

    def of(self, case: Case, cache: FeatureCache) -> dict[str, Features]:
        """Plane → (slices, d) float32.

        Raises:
            InputError: the case cannot be read, or the network does not take its slices.
        """
        return cache.arrays(case, KIND, self.key(case), lambda: self._compute(case))

    def key(self, case: Case) -> dict[str, Any]:
        """What the features depend on beside the file; the batch size is no part of it."""
        slicing = self.extractor.slicing.as_dict()
        return {**self.extractor.settings(), "slicing": slicing, "modality": case.modality}

    def all_of(self, study: Study, role: Role, progress: Progress) -> list[dict[str, Features]]:
        """The features of every case of a role, in order."""
        cases = study.of(role)
        found = []
        with progress.stage(f"features of {role} cases", len(cases)) as advance:
            for case in cases:
                found.append(self.of(case, study.cache))
                advance()
        return found

    def conditions(self, variant: str, modality: str, **more: Any) -> Conditions:
        """The protocol of a number that was computed from these features."""
        extractor = self.extractor
        window = (-1000.0, 1000.0) if modality == "CT" else None
        known = dict(more)
        if window is None:
            known["range"] = "MR: 0 to the 99.5th percentile of each volume"
        return Conditions(
            variant=variant,
            spacing_mm=(extractor.slicing.spacing_mm,) * 3,
            planes=PLANES,
            slices=extractor.slicing.in_words(),
            window=window,
            extractor=extractor.name,
            extractor_sha256=extractor.sha256,
            seed=self.settings.seed,
            more={"preparation": extractor.settings()["preparation"], **known},
        )

    def _compute(self, case: Case) -> dict[str, Features]:
        shown: SlicedCase = sliced(case, self.extractor.slicing)
        batch = self.settings.batch
        return {plane: self.extractor.features(shown, plane, batch) for plane in PLANES}


def rows_of(features: list[dict[str, Features]], plane: str) -> list[np.ndarray[Any, Any]]:
    """One plane of each case, float64."""
    return [case[plane].astype(np.float64) for case in features]
