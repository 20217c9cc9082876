"""Placements by Graphviz and by columns: what lies where, and where lines begin and end."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handoff_lab.visualization import columns, layout
from handoff_lab.visualization.columns import Block, Line
from handoff_lab.visualization.placing import place

SMALL = Block(90.0, 34.0)


def fan(count, group=-1):
    """One block, ``count`` that need it, one that needs them all."""
    blocks = [SMALL, *(Block(90.0, 34.0, group) for _ in range(count)), SMALL]
    return blocks, [Line(0, n) for n in range(1, count + 1)] + [Line(n, count + 1) for n in range(1, count + 1)]


def chain(count):
    return [SMALL] * count, [Line(n - 1, n) for n in range(1, count)]


@st.composite
def graphs(draw):
    """Blocks of three groups and none, each with lines from some of those before it, and ties."""
    count = draw(st.integers(1, 30))
    sizes = st.builds(Block, st.sampled_from([60.0, 120.0, 250.0]), st.sampled_from([34.0, 44.0]), st.integers(-1, 2))
    blocks = draw(st.lists(sizes, min_size=count, max_size=count))
    lines = []
    for head in range(1, count):
        tails = draw(st.lists(st.integers(0, head - 1), max_size=3, unique=True))
        lines += [Line(tail, head, draw(st.booleans())) for tail in tails]
    return blocks, lines


def edges(block, middle):
    (x, y), width, height = middle, block.width / 2, block.height / 2
    return x - width, y - height, x + width, y + height


def overlaps(one, other, slack=0.5):
    return (
        one[0] < other[2] - slack
        and other[0] < one[2] - slack
        and one[1] < other[3] - slack
        and other[1] < one[3] - slack
    )


def ends(path):
    assert re.fullmatch(r"M[-\d. ]+([CL][-\d. ]+)+", path)
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", path)]
    return tuple(numbers[:2]), tuple(numbers[-2:])


def check(blocks, lines, placed):
    boxes = [edges(block, middle) for block, middle in zip(blocks, placed.middles, strict=True)]
    assert not any(overlaps(one, other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= placed.width and box[3] <= placed.height for box in boxes)
    for line, path in zip(lines, placed.paths, strict=True):
        for (x, y), box in zip(ends(path), (boxes[line.tail], boxes[line.head]), strict=True):
            assert box[0] - 2 <= x <= box[2] + 2
            assert box[1] - 2 <= y <= box[3] + 2
    for frame in placed.frames:
        around = (frame.left, frame.top, frame.left + frame.width, frame.top + frame.height)
        for block, box in zip(blocks, boxes, strict=True):
            if block.group == frame.group:
                assert overlaps(around, box)
                assert around[0] <= box[0] + 0.5
                assert around[3] >= box[3] - 0.5
            else:
                assert not overlaps(around, box)


def count_runs(monkeypatch):
    runs = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **options: runs.append(command) or run(command, **options))
    return runs


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_boxes_stand_apart_and_lines_go_from_one_to_the_other(graph):
    check(*graph, place(*graph, ["tiles", "a longer name of a group", ""]))


@settings(deadline=None)
@given(graphs())
def test_columns_do_the_same_without_graphviz(graph):
    check(*graph, columns.place(*graph))


def test_narrow_graphs_go_down_and_wide_ones_to_the_right():
    down, right = place(*fan(3)), place(*fan(7))
    assert down.middles[0][1] < down.middles[1][1] < down.middles[4][1]
    assert right.middles[0][0] < right.middles[1][0] < right.middles[8][0]
    assert len({y for _, y in down.middles[1:4]}) == 1


def test_groups_have_frames_with_room_for_their_names():
    placed = place(*fan(7, group=1), ["", "a group with a long name " * 3])
    (frame,) = placed.frames
    assert frame.group == 1
    assert frame.width > 300
    assert min(y for _, y in placed.middles[1:8]) - 17 - frame.top > 12


@pytest.mark.parametrize("count", [40, 400])
def test_a_fan_is_no_tower(count, monkeypatch):
    runs = count_runs(monkeypatch)
    blocks, lines = fan(count, group=0)
    placed = place(blocks, lines, ["tiles"])
    assert runs == []
    assert 1 < placed.width / placed.height < 4
    check(blocks, lines, placed)
    assert [frame.group for frame in placed.frames] == [0]


def test_lines_of_a_level_in_columns_pass_no_box():
    blocks, lines = fan(40)
    placed = columns.place(blocks, lines)
    boxes = [edges(block, middle) for block, middle in zip(blocks, placed.middles, strict=True)]
    straight = [
        tuple(map(float, found)) for path in placed.paths for found in re.findall(r"([-\d.]+) ([-\d.]+)L", path)
    ]
    assert straight
    for _, y in straight:
        assert not any(box[1] < y < box[3] for box in boxes[1:41])


def test_a_group_that_is_strewn_about_has_no_frame_in_columns():
    blocks = [Block(90.0, 34.0, 0), SMALL, Block(90.0, 34.0, 0)]
    assert columns.place(blocks, [Line(0, 1), Line(1, 2)]).frames == ()


def test_a_tie_moves_nothing():
    blocks, lines = chain(3)
    assert place(blocks, [*lines, Line(0, 2, directed=False)]).middles == place(blocks, lines).middles


def test_crowds_are_not_given_to_graphviz(monkeypatch):
    runs = count_runs(monkeypatch)
    lines = [Line(tail, head) for head in range(60) for tail in range(head)]
    check([SMALL] * 60, lines, place([SMALL] * 60, lines))
    assert runs == []


def test_what_was_laid_out_once_is_known(monkeypatch):
    blocks, lines = chain(5)
    first = place([*blocks, Block(77.0, 34.0)], lines)
    runs = count_runs(monkeypatch)
    assert place([*blocks, Block(77.0, 34.0)], lines) == first
    assert runs == []


def test_nothing_is_nowhere():
    placed = place([], [])
    assert (placed.middles, placed.paths, placed.frames) == ((), (), ())
    assert placed.width > 0


def test_without_graphviz_or_in_time_there_are_columns(monkeypatch):
    blocks, lines = chain(4)
    layout._run.cache_clear()

    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    with monkeypatch.context() as slow:
        slow.setattr(subprocess, "run", hang)
        assert place(blocks, lines) == columns.place(blocks, lines)
    with monkeypatch.context() as bare:
        bare.setattr(layout, "find_spec", lambda name: None)
        bare.setattr(shutil, "which", lambda name: None)
        assert place(blocks, lines) == columns.place(blocks, lines)
    assert place(blocks, lines) != columns.place(blocks, lines)


@pytest.mark.real
@pytest.mark.skipif(find_spec("pygraphviz") is None, reason="pygraphviz is optional")
def test_pygraphviz_says_the_same_in_a_child(monkeypatch):
    blocks, lines = fan(7, group=0)
    by_dot = place(blocks, lines, ["tiles"])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    runs = count_runs(monkeypatch)
    placed = place(blocks, lines, ["tiles"])
    assert [command[0] for command in runs] == [sys.executable]
    check(blocks, lines, placed)
    assert placed.height == pytest.approx(by_dot.height, rel=0.1)
