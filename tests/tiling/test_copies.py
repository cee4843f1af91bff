"""Copies beside the computing: in a fake that copies as late as it may, a lacking wait shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from synthct.tiling import budget, copies, stores
from synthct.tiling.budget import Plan, Room
from synthct.tiling.copies import ON_THE_WAY, Ahead, Copies
from synthct.tiling.halo import run
from synthct.tiling.schedule import Schedule, arrange, schedule
from tests.tiling.networks import NETWORKS, random, relative_error, whole

HOST = Room(host_bytes=2**40)


class LateLane:
    """Does nothing until somebody waits; then all copies up to that one, in order.

    So what is read without a wait is NaN, and a slab that is changed before it was copied arrives
    changed.
    """

    def __init__(self) -> None:
        self.left: list[Callable[[], Any]] = []
        self.asked: list[str] = []
        self.most_sent = 0
        self._done = 0

    def send(self, slab: torch.Tensor, place: torch.Tensor) -> LateTicket:
        self.asked.append("send")
        return self._ask("send", lambda: place.copy_(slab))

    def fetch(self, region: torch.Tensor) -> tuple[torch.Tensor, LateTicket]:
        self.asked.append("fetch")
        slab = torch.full(region.shape, torch.nan, dtype=region.dtype)
        return slab, self._ask("fetch", lambda: slab.copy_(region))

    def _ask(self, kind: str, copy: Callable[[], Any]) -> LateTicket:
        copy.__name__ = kind
        self.left.append(copy)
        waiting = sum(one.__name__ == "send" for one in self.left)
        self.most_sent = max(self.most_sent, waiting)
        return LateTicket(self, self._done + len(self.left))

    def catch_up(self, number: int) -> None:
        while self._done < number:
            self.left.pop(0)()
            self._done += 1


class LateTicket:
    def __init__(self, lane: LateLane, number: int) -> None:
        self._lane, self._number = lane, number

    def join(self) -> None:
        self._lane.catch_up(self._number)

    def wait(self) -> None:
        self._lane.catch_up(self._number)


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[LateLane]:
    made: list[LateLane] = []

    def lane_of(device: torch.device) -> LateLane:
        made.append(LateLane())
        return made[-1]

    monkeypatch.setattr(stores, "lane_of", lane_of)
    return made


def _error(name: str, kept: frozenset[int] | None = None) -> float:
    """Of a run whose maps all live in host memory."""

    def planner(todo: Schedule, itemsize: int) -> Plan:
        variant = arrange(todo.network, kept)
        cuts = budget.by_thickness(variant, 2, itemsize).cuts
        return Plan(variant, cuts, itemsize, HOST, frozenset(range(len(variant.buffers))))

    torch.manual_seed(0)
    layers, x = NETWORKS[name](), random(1, 4, 9, 5, 4)
    got = run(layers, x, planner=planner, dtype=torch.float64)
    assert got is not None
    return relative_error(got, whole(layers, x))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kept", [None, frozenset({3, 6})])
def test_late_copies_change_nothing(
    lanes: list[LateLane], name: str, kept: frozenset[int] | None
) -> None:
    assert _error(name, kept) < 1e-12
    for lane in lanes:  # none where no map is kept
        assert not lane.left
        assert lane.most_sent <= ON_THE_WAY


def test_the_next_planes_are_fetched_before_these_are_sent(lanes: list[LateLane]) -> None:
    _error("decoder")
    words = "".join(word[0] for word in lanes[0].asked)
    assert "fsf" in words
    assert "ffs" in words  # two fetched before the first of them has left


@pytest.mark.parametrize("lacking", [(LateTicket, "join"), (Copies, "finish")])
def test_the_fake_notices_a_lacking_wait(
    lanes: list[LateLane], monkeypatch: pytest.MonkeyPatch, lacking: tuple[type, str]
) -> None:
    monkeypatch.setattr(*lacking, lambda self: None)
    error = _error("barrier")
    assert not error < 1e-12 or lanes[0].left


def test_a_wrong_guess_is_fetched_again() -> None:
    region = torch.arange(12.0).view(1, 1, 12, 1, 1)
    reader = Ahead(region, Copies(LateLane()), first=100)
    for cut in ((100, 104), (104, 108), (109, 112)):
        assert reader.take(cut).flatten().tolist() == list(range(cut[0] - 100, cut[1] - 100))


@pytest.mark.parametrize("name", ["decoder", "residual first", "barrier"])
def test_budgets_count_what_is_on_the_way(name: str) -> None:
    todo = schedule(NETWORKS[name](), 4, (60, 150, 140))
    room = Room(device="cuda", host_bytes=2**40)
    least = budget.minimum(todo, 4, room)
    for share in (1.0, 1.2, 2.0):
        plan = budget.by_memory(todo, int(least * share), 4, room)
        assert plan.peak_bytes <= int(least * share)
    spilled = budget.by_memory(todo, least, 4, room)
    assert spilled.copied == spilled.spilled
    beside = [budget.copied_elements(step, 1, spilled.spilled) for step in spilled.schedule.steps]
    assert max(beside) > 0 or not spilled.spilled


def test_a_cpu_copies_at_once() -> None:
    assert copies.lane_of(torch.device("cpu")) is None
