"""Which file at hand is which network of which model: by published name, else by content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synthct.checkpoints import catalogue
from synthct.checkpoints.catalogue import Entry
from synthct.checkpoints.container import SCALE_FACTOR, Container, open_container
from synthct.checkpoints.imports import Matched, imported_roles
from synthct.checkpoints.load import checked_path
from synthct.checkpoints.naming import MisfitWeights, Shapes, fit
from synthct.checkpoints.places import cache_folder
from synthct.errors import DamagedWeights, MissingWeights, UsageError, WeightsError
from synthct.models.networks import shapes_of

_ORDER = ("vae", "unet", "controlnet")
_NEAR = 0.5  # a file that misses fewer of a network's keys was meant for it


@dataclass(frozen=True)
class Candidate:
    """One opened file of weights."""

    path: Path
    container: Container

    def misfit(self, wanted: Shapes, unet: Shapes | None = None) -> MisfitWeights | None:
        """What keeps the file from being that network; None where nothing does."""
        try:
            fit(wanted, self.container.shapes(), self.path, unet)
        except MisfitWeights as error:
            return error
        return None


def told_by(candidates: list[Candidate]) -> Entry:
    """The entry whose networks the files fit; among equals, the one with their published names.

    Raises:
        DamagedWeights: they fit no model.
        UsageError: they fit several.
    """
    scores = {name: _score(entry, candidates) for name, entry in catalogue.entries().items()}
    best = max(scores.values())
    names = [name for name, score in scores.items() if score == best]
    if best[0] == 0:
        raise DamagedWeights(
            f"{candidates[0].path} fits no model of the catalogue"
            + (f", nor do {len(candidates) - 1} more" if len(candidates) > 1 else ""),
            f"with --model every mismatch is named; there are: {', '.join(scores)}",
        )
    if len(names) > 1:
        raise UsageError(
            "the files fit several models of the catalogue",
            f"say which with --model: {', '.join(names)}",
        )
    return catalogue.entry(names[0])


def _score(entry: Entry, candidates: list[Candidate]) -> tuple[int, int]:
    """Roles that some file fits, and files that bear a published name."""
    fitting = sum(
        any(one.misfit(wanted) is None for one in candidates)
        for wanted in shapes_of(entry).values()
    )
    published = {file.name for file in entry.hub.values()}
    return fitting, sum(one.path.name in published for one in candidates)


@dataclass(frozen=True)
class Matching:
    """The files at hand, held against the networks of `entry`, to be imported as `name`."""

    entry: Entry
    name: str
    source: Path
    candidates: list[Candidate]

    @cached_property
    def shapes(self) -> Mapping[str, Shapes]:
        return shapes_of(self.entry)

    def all(self) -> list[Matched]:
        """One file per role; of a single file, the role that it fits.

        Raises:
            MisfitWeights: a file that was meant for a role does not fit. Every mismatch is named.
            MissingWeights: a folder without a file of some role.
            DamagedWeights: nothing fits, or the U-Net comes without its scale factor.
        """
        unet = self._unet_before()
        found: list[Matched] = []
        wrong: dict[str, MisfitWeights] = {}
        for role in (role for role in _ORDER if role in self.shapes):
            base = unet if role == "controlnet" else None
            try:
                found += self._match(role, base, {one.path for one in found})
            except MisfitWeights as error:
                if role != "controlnet" or base is not None:  # what it lacks may be the U-Net's
                    wrong[role] = error
            if role == "unet" and found and found[-1].role == "unet":
                unet = found[-1].container
        if wrong:
            raise _together(wrong)
        self._require_all(found)
        _require_scale(found)
        return found

    def _match(self, role: str, unet: Container | None, taken: set[Path]) -> list[Matched]:
        """The file of a role, or none: the one with its name, else the only one that fits."""
        wanted, shared = self.shapes[role], None if unet is None else unet.shapes()
        chosen = [one for one in self.candidates if one.path.name in self._names_of(role)][:1]
        if not chosen:
            free = self._nameless(taken)
            chosen = [one for one in free if one.misfit(wanted, shared) is None]
        if len(chosen) > 1:
            both = " and ".join(one.path.name for one in chosen[:2])
            raise UsageError(
                f"{both} fit the {role} of {self.entry.name}", "import one file by itself"
            )
        return [
            Matched(
                role,
                one.path,
                one.container,
                fit(wanted, one.container.shapes(), one.path, shared),
                unet,
            )
            for one in chosen
        ]

    def _names_of(self, role: str) -> set[str]:
        published = {file.name for key, file in self.entry.hub.items() if key == role}
        return {self.entry.files.by_role()[role]} | published

    def _nameless(self, taken: set[Path]) -> list[Candidate]:
        """Not taken, nor the published file of another role or another model."""
        spoken_for = {
            file.name for other in catalogue.entries().values() for file in other.hub.values()
        }.union(*(self._names_of(role) for role in self.shapes))
        return [
            one
            for one in self.candidates
            if one.path not in taken and one.path.name not in spoken_for
        ]

    def _unet_before(self) -> Container | None:
        """The U-Net of an earlier call: a ControlNet that comes alone may need its encoder."""
        path = cache_folder() / self.name / self.entry.files.unet
        return open_container(checked_path(path)) if path.is_file() else None

    def _require_all(self, found: list[Matched]) -> None:
        there = {one.role for one in found}
        if not there:
            raise self._nearest(list(self.shapes), self.candidates) or self._nothing()
        there |= imported_roles(self.name, self.entry.files.by_role())
        missing = [role for role in self.shapes if role not in there]
        if missing and self.source.is_dir():
            free = self._nameless({one.path for one in found})
            raise self._nearest(missing, free, _NEAR) or self._lacking(missing)

    def _nearest(
        self, roles: list[str], candidates: list[Candidate], share: float = float("inf")
    ) -> WeightsError | None:
        """What the file that comes nearest to one of the roles lacks, if it comes near enough."""
        errors = sorted(self._misfits(roles, candidates), key=lambda pair: _count(pair[1]))
        if not errors:
            return None
        role, nearest = errors[0]
        if _count(nearest) > share * len(self.shapes[role]):
            return None
        return _together({role: nearest})

    def _misfits(
        self, roles: list[str], candidates: list[Candidate]
    ) -> Iterator[tuple[str, MisfitWeights]]:
        for one in candidates:
            for role in roles:
                error = one.misfit(self.shapes[role])
                if error is not None:
                    yield role, error

    def _nothing(self) -> WeightsError:
        return DamagedWeights(f"nothing in {self.source} is of {self.entry.name}", "see --model")

    def _lacking(self, missing: list[str]) -> WeightsError:
        names = [file.name for role, file in self.entry.hub.items() if role in missing]
        return MissingWeights(
            f"{self.source} holds no {', '.join(missing)} of {self.entry.name}",
            f"looked for: {', '.join(names) or 'files that fit'}; or import file by file",
        )


def _together(wrong: Mapping[str, MisfitWeights]) -> MisfitWeights:
    """The first complaint, with the mismatches of every file."""
    every = {
        f"{role}: {what}": keys
        for role, error in wrong.items()
        for what, keys in error.mismatches.items()
        if keys
    }
    message = next(iter(wrong.values())).message
    return MisfitWeights(message, "all of them: the same command with -v or --json", every)


def _count(error: MisfitWeights) -> int:
    return sum(len(keys) for keys in error.mismatches.values())


def _require_scale(found: list[Matched]) -> None:
    for one in found:
        if one.role == "unet" and SCALE_FACTOR not in one.container.metadata:
            raise DamagedWeights(
                f"{one.path} states no {SCALE_FACTOR}, which latents are scaled with",
                "import the file as published, with its container",
            )
