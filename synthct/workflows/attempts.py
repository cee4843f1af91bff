"""One sample, tried until it passes QC: sample, put on the grid asked for, judge."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Protocol

from synthct.errors import RanOutOfMemory
from synthct.models.protocols import Generator
from synthct.models.settings import Sampling
from synthct.quality.checks import judge
from synthct.quality.norms import Norms
from synthct.quality.unlabelled import judge_mr, judge_unlabelled
from synthct.quality.verdict import Verdict
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.grid import GridPlan
from synthct.workflows.placement import Placement, on_asked_grid
from synthct.workflows.progress import Progress
from synthct.workflows.timing import Clock, TimedStages


@dataclass(frozen=True, eq=False)
class Made:
    """One try: the volume on the grid asked for, and the judgement on it."""

    volume: Volume
    verdict: Verdict
    sampling: Sampling
    seconds: dict[str, float]


class Draw(Protocol):
    """The sampling of the attempt of that number; [seed, attempt] makes its noise."""

    def __call__(self, attempt: int) -> Sampling: ...


class Replan(Protocol):
    """What is done from now on where memory ran out in spite of the plan.

    Raises:
        MemoryBudgetError: nothing smaller is known.
    """

    def __call__(self, error: RanOutOfMemory) -> None: ...


@dataclass(frozen=True, eq=False)
class Attempts:
    """What is the same for all tries of a run. `clock` adds up the seconds of them all."""

    generator: Generator
    placement: Placement
    grid: GridPlan
    regions: tuple[str, ...]
    norms: Norms
    progress: Progress
    clock: Clock
    replan: Replan

    def best(self, case: str, draw: Draw, retries: int) -> Made:
        """The first try that passes; where none does, the least bad of 1 + `retries`."""
        best: Made | None = None
        for attempt in range(retries + 1):
            made = self._in_what_there_is(draw, attempt)
            if made.verdict.passed:
                return made
            if best is None or made.verdict.badness < best.verdict.badness:
                best = made
            self.progress.say(f"{case} try {attempt}: QC failed: {made.verdict.reason}")
        assert best is not None
        return best

    def _in_what_there_is(self, draw: Draw, attempt: int) -> Made:
        """A single try; where memory runs out on the way, again from the same noise."""
        while True:
            try:
                return self.one(draw(attempt))
            except RanOutOfMemory as error:
                self.replan(error)
            gc.collect()  # what the error's frames held

    def one(self, sampling: Sampling) -> Made:
        """A single try."""
        clock = Clock()
        stages = TimedStages(self.progress, clock)
        try:
            inner = self.generator.generate(self.placement.inner, sampling, self.regions, stages)
        finally:
            stages.close()
        with clock("resampling"):
            volume = on_asked_grid(inner, self.grid, self.placement.written)
        with clock("QC"), self.progress.stage("QC"):
            verdict = self._judge(volume, self.placement.written)
        self.clock.add(clock)
        return Made(volume, verdict, sampling, clock.seconds)

    def _judge(self, volume: Volume, labels: LabelVolume | None) -> Verdict:
        if labels is None:
            return judge_unlabelled(volume) if volume.modality == "CT" else judge_mr(volume)
        return judge(volume, labels, self.norms)
