"""The picture opens, keeps proportions, shows the windows, and says what it is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthct.errors import InputError, UsageError
from synthct.geometry import Geometry
from synthct.labels.groups import BODY
from synthct.preview.contours import colour_of, draw_contours, outline
from synthct.preview.render import render, render_png
from synthct.volume.volume import LabelVolume, Volume

GEOMETRY = Geometry.from_spacing((40, 30, 20), (2.0, 2.0, 4.0))


def _volume(hu: float = 40.0) -> Volume:
    array = np.full(GEOMETRY.shape, -1000.0, dtype=np.float32)
    array[5:35, 5:25, 2:18] = hu
    return Volume(array, GEOMETRY)


def _labels() -> LabelVolume:
    array = np.zeros(GEOMETRY.shape, dtype=np.uint8)
    array[5:35, 5:25, 2:18] = BODY
    array[10:20, 10:20, 5:15] = 1
    array[22:30, 10:20, 5:15] = 3
    return LabelVolume(array, GEOMETRY, "maisi")


def _open(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_labels_add_a_row() -> None:
    plain, labelled = _open(render_png(_volume())), _open(render_png(_volume(), _labels()))
    assert labelled.width == plain.width
    assert labelled.height > plain.height * 1.4


def test_the_mark_stands_in_the_picture_and_in_its_text() -> None:
    marked = _open(render_png(_volume(), title="seg, seed 0"))
    assert marked.info["Comment"].startswith("SYNTHETIC")
    assert marked.info["Title"] == "seg, seed 0"
    real = _open(render_png(_volume(), title="seg, seed 0", mark=""))
    assert "Comment" not in real.info
    assert np.any(np.asarray(marked)[:46] != np.asarray(real)[:46])


@pytest.mark.parametrize(("hu", "grey"), [(40, 128), (-160, 0), (240, 255), (3000, 255)])
def test_the_window_maps_hu_to_grey(hu: float, grey: int) -> None:
    picture = np.asarray(_open(render_png(_volume(hu))).convert("L"))
    assert picture[46 + 24 + 200 : 46 + 24 + 215, 150:170].mean() == pytest.approx(grey, abs=3)


def test_every_structure_shows_its_colour() -> None:
    picture = np.asarray(_open(render_png(_volume(), _labels()))).reshape(-1, 3)
    for label in (1, 3, BODY):
        assert (picture == colour_of(label)).all(axis=1).any()


def test_colours_differ() -> None:
    colours = np.array([colour_of(label) for label in range(1, 133)], dtype=float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    neighbours = np.diagonal(distance, offset=1)
    assert len({tuple(c) for c in colours}) == 132
    assert neighbours.min() > 60


def test_an_outline_is_closed_and_inside_the_structure() -> None:
    labels = np.zeros((12, 12), dtype=int)
    labels[3:9, 3:9] = 5
    edge = outline(labels)
    assert edge.sum() == 20
    assert (labels[edge] == 5).all()
    drawn = draw_contours(np.zeros((12, 12), dtype=np.uint8), labels)
    assert tuple(drawn[3, 3]) == colour_of(5)
    assert tuple(drawn[0, 0]) == (0, 0, 0)


def test_labels_on_another_grid_are_refused() -> None:
    other = Geometry.from_spacing(GEOMETRY.shape, (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="grid"):
        render_png(_volume(), LabelVolume(_labels().array, other))


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(InputError, match="lower value"):
        render_png(_volume(), window_hu=(240, -160))


def test_empty_labels_and_unknown_ids_are_drawn() -> None:
    empty = LabelVolume(np.zeros(GEOMETRY.shape, dtype=np.uint16), GEOMETRY)
    _open(render_png(_volume(), empty))
    strange = LabelVolume(np.full(GEOMETRY.shape, 60000, dtype=np.uint16), GEOMETRY)
    _open(render_png(_volume(), strange))


def test_many_structures_and_a_long_title_still_fit() -> None:
    ids = np.arange(np.prod(GEOMETRY.shape)).reshape(GEOMETRY.shape) % 133
    picture = _open(
        render_png(_volume(), LabelVolume(ids, GEOMETRY, "maisi"), title="a long title " * 40)
    )
    assert picture.width < 1500
    assert picture.height < 2500


def test_a_file_is_written_once(tmp_path: Path) -> None:
    render(_volume(), _labels(), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(UsageError):
        render(_volume(), None, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    render(_volume(), None, tmp_path / "a.png", overwrite=True)
    assert (tmp_path / "a.png").read_bytes() != before
