"""The steps do what their names say; the DAG of them runs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handoff_lab.examples import images
from handoff_lab.examples.photos import photo

SIZE = (80, 60)


@pytest.fixture(scope="module")
def picture() -> images.Pixels:
    return images.load(1, SIZE)


@given(st.integers(0, 50))
def test_a_photo_is_the_same_for_the_same_number(index: int) -> None:
    assert photo(index, (32, 24)) == photo(index, (32, 24))
    assert photo(index, (32, 24)) != photo(index + 1, (32, 24))


def test_load_and_resize_have_the_size_asked_for(picture: images.Pixels) -> None:
    assert picture.shape == (60, 80, 3)
    assert images.resize(picture, (40, 30)).shape == (30, 40, 3)
    assert images.thumbnail(picture, 20).shape == (15, 20, 3)


def test_grayscale_has_no_colour(picture: images.Pixels) -> None:
    grey = images.grayscale(picture)
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()


def test_sepia_is_brown_and_darker_in_the_corner() -> None:
    white = np.full((60, 80, 3), 255, dtype=np.uint8)
    brown = images.sepia(white)
    assert (brown[..., 0] >= brown[..., 2]).all()
    assert brown[0, 0].sum() < brown[30, 40].sum()


def test_blur_makes_a_disc_of_a_point_and_keeps_its_light() -> None:
    point = np.zeros((41, 41, 3), dtype=np.uint8)
    point[20, 20] = 255
    disc = images.blur(point, radius=5)
    lit = np.argwhere(disc[..., 0] > 0)
    assert np.hypot(*(lit - 20).T).max() == 5
    light = ((disc[..., 0] / 255) ** 2.2).sum()
    assert light == pytest.approx(1, abs=0.1)


def test_blur_leaves_an_even_picture_even() -> None:
    even = np.full((20, 30, 3), 120, dtype=np.uint8)
    assert np.abs(images.blur(even, radius=4).astype(int) - 120).max() <= 1


def test_edges_are_where_brightness_changes() -> None:
    half = np.zeros((40, 40, 3), dtype=np.uint8)
    half[:, 20:] = 255
    found = images.edges(half)[..., 0]
    assert found[:, 19:21].min() > 200
    assert found[:, 0].max() == 0


def test_quality_tells_sharp_from_blurred(picture: images.Pixels) -> None:
    effects = [getattr(images, effect)(picture) for effect in images.EFFECTS]
    measured = images.quality(*effects)
    assert list(measured) == list(images.EFFECTS)
    assert measured["grayscale"]["sharpness"] > 5 * measured["blur"]["sharpness"]


def test_report_has_a_line_for_each_photo_and_effect(picture: images.Pixels) -> None:
    measured = images.quality(*[picture] * 4)
    assert len(images.quality_report([measured, measured]).splitlines()) == 1 + 2 * 4


def test_collage_puts_pictures_in_rows() -> None:
    colours = [np.full((10, 20, 3), shade, dtype=np.uint8) for shade in (10, 60, 110)]
    sheet = images.collage(colours, columns=2, gap=4)
    assert sheet.shape == (32, 52, 3)
    assert [sheet[8, 8, 0], sheet[8, 32, 0], sheet[22, 8, 0], sheet[22, 32, 0]] == [10, 60, 110, 255]


def test_png_is_what_pillow_reads(picture: images.Pixels) -> None:
    with Image.open(io.BytesIO(images.png(picture))) as image:
        assert (np.asarray(image) == picture).all()


def test_pipeline_is_valid_and_shows_its_needs() -> None:
    dag = images.pipeline(n_images=3, size=SIZE).validate()
    assert len(dag.functions) == 3 * 8 + 2
    assert {id for id, f in dag.functions.items() if f.cost["gpu"]} == {f"edges_{n}" for n in (1, 2, 3)}
    assert {id for id, f in dag.functions.items() if f.cost["fpga"]} == {f"blur_{n}" for n in (1, 2, 3)}
    assert all(f.duration is not None and f.output_size for f in dag.functions.values())


def test_estimates_grow_with_the_pictures() -> None:
    small, large = (images.pipeline(1, size).functions["blur_1"] for size in ((100, 100), (200, 200)))
    assert large.duration == pytest.approx(4 * small.duration)
    assert large.output_size == pytest.approx(4 * small.output_size)
