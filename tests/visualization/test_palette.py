import colorsys
import itertools

import pytest

from handoff_lab.telemetry import FunctionStatus
from handoff_lab.visualization.palette import (
    ALARM,
    BLANK,
    INK,
    OKABE_ITO,
    QUIET,
    STATUS,
    NodeMarks,
    contrast,
    letters,
)
from tests.visualization.colour_vision import VISIONS, distance


def saturation(colour):
    return colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))[2]


PUBLISHED = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#F0E442", "#D55E00")


def test_the_colours_are_about_those_of_okabe_and_ito_without_grey_and_black():
    assert all(distance(ours, theirs) < 6.2 for ours, theirs in zip(OKABE_ITO, PUBLISHED, strict=True))
    assert all(saturation(colour) > 0.3 for colour in OKABE_ITO)


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_nodes_of_seven_differ_for_everyone(vision):
    distances = {pair: distance(*pair, vision) for pair in itertools.combinations(OKABE_ITO, 2)}
    assert len(distances) == 21
    assert {pair: found for pair, found in distances.items() if found < 15} == {}


def test_the_published_colours_would_not_do():
    pairs = list(itertools.combinations(PUBLISHED, 2))
    assert min(distance(*pair) for pair in pairs) > 15
    assert all(min(distance(*pair, vision) for pair in pairs) < 13 for vision in ("protan", "deutan", "tritan"))


def test_every_status_is_told_without_colour():
    assert set(STATUS) == set(FunctionStatus)
    assert len({mark.sign for mark in STATUS.values()}) == len(STATUS)
    outlines = {(mark.shape, mark.style, mark.double, mark.width) for mark in STATUS.values()}
    assert len(outlines) == len(STATUS)


def test_marks_do_not_depend_on_the_order_of_nodes():
    marks = NodeMarks(["n10", "beta", "n2", "alpha", "n2"])
    assert [(name, mark.letter) for name, mark in marks.items()] == list(zip(["alpha", "beta", "n2", "n10"], "ABCD"))


def test_text_is_legible_on_every_ground():
    for mark in NodeMarks(f"n{number}" for number in range(len(OKABE_ITO))).values():
        assert contrast(INK, mark.tint) > 7
        assert contrast(mark.ink, mark.colour) > 4.5
    assert contrast(INK, BLANK) > 7
    for ground in (BLANK, "#0d1117"):
        assert contrast(QUIET, ground) > 4
    assert contrast(ALARM, BLANK) > 3


def test_nodes_with_the_same_colour_have_different_letters():
    marks = NodeMarks(f"n{number}" for number in range(60))
    looks = {(mark.letter, mark.colour) for mark in marks.values()}
    assert len({mark.letter for mark in marks.values()}) == len(looks) == 60
    assert NodeMarks(["a", "b", "a"])["b"].letter == "B"


def test_letters_go_on_after_z():
    assert list(itertools.islice(map(letters, itertools.count(24)), 4)) == ["Y", "Z", "AA", "AB"]
    assert letters(26 * 27) == "AAA"


@pytest.mark.parametrize(("one", "other", "ratio"), [("#000000", "#FFFFFF", 21.0), ("#777777", "#777777", 1.0)])
def test_contrast_is_that_of_wcag(one, other, ratio):
    assert contrast(one, other) == pytest.approx(ratio)
