import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.visualization.fold import MOST_BOXES, MOST_CROSSED, depths, direction, fold, is_big


@st.composite
def graphs(draw):
    """Each id with some of those before it."""
    size = draw(st.integers(1, 15))
    edges = {}
    for number in range(size):
        edges[f"f{number}"] = draw(st.lists(st.sampled_from(sorted(edges)), max_size=3, unique=True)) if edges else []
    return edges


@given(graphs(), st.lists(st.sampled_from(["g", "h", None]), min_size=15, max_size=15))
def test_folding_loses_no_function_and_no_edge_between_folds(edges, names):
    groups = dict(zip(edges, names, strict=False))
    folded = fold(edges, groups)
    members = [id for part in folded.folds for id in part.members]
    assert sorted(members) == sorted(edges)
    place = {id: number for number, part in enumerate(folded.folds) for id in part.members}
    crossing = [(place[need], place[id]) for id, needs in edges.items() for need in needs if place[need] != place[id]]
    assert sum(folded.edges.values()) == len(crossing)
    assert set(folded.edges) == set(crossing)


@given(graphs())
def test_a_function_is_deeper_than_what_it_needs(edges):
    depth = depths(edges)
    assert all(depth[id] > depth[need] for id, needs in edges.items() for need in needs)
    assert all(depth[id] == 0 for id, needs in edges.items() if not needs)


def test_groups_hold_together_whatever_their_depth():
    edges = {"a1": [], "a2": ["a1"], "b": ["a2"]}
    folded = fold(edges, {"a1": "first", "a2": "first"})
    assert [(part.title, part.members) for part in folded.folds] == [("first", ("a1", "a2")), ("b", ("b",))]


def test_numbers_at_the_end_of_a_name_do_not_matter():
    folded = fold({"blur_1": [], "blur-22": [], "tone3": [], ("crop", 4): [], 5: []}, {})
    assert {part.title: len(part.members) for part in folded.folds} == {"blur": 2, "tone": 1, "crop": 1, "5": 1}


def test_what_is_still_too_much_is_folded_into_bands():
    edges = {
        f"{'abcdefghij'[n % 10]}{'xyz'[n % 3]}q{n}z": (
            [] if n < 2 else [f"{'abcdefghij'[(n - 2) % 10]}{'xyz'[(n - 2) % 3]}q{n - 2}z"]
        )
        for n in range(2000)
    }
    folded = fold(edges, {})
    assert len(folded.folds) <= 60
    assert folded.folds[0].title == "levels 0 to 16"


def test_graphs_are_big_by_functions_or_by_the_levels_that_their_arrows_cross():
    assert not is_big({n: [] for n in range(MOST_BOXES)})
    assert is_big({n: [] for n in range(MOST_BOXES + 1)})
    assert not is_big({n: [n - 1] if n else [] for n in range(MOST_BOXES)})
    assert not is_big({n: {n - 1, 0} if n else [] for n in range(50)})
    assert is_big({n: {n - 1, 0} if n else [] for n in range(100)})  # dot takes 9 s for it
    assert is_big({n: range(30) for n in range(30, MOST_CROSSED // 30 + 31)})


@pytest.mark.parametrize(("functions", "needs"), [(300, 4), (60, 15), (300, 30)])
def test_a_folded_graph_is_never_big_itself(functions, needs):
    chance = random.Random(2)
    edges = {f"f{n}": [f"f{m}" for m in chance.sample(range(n), min(n, needs))] for n in range(functions)}
    assert is_big(edges)
    folded = fold(edges, {})
    assert len(folded.folds) > 10
    assert not is_big({n: [tail for tail, head in folded.edges if head == n] for n in range(len(folded.folds))})


def test_there_are_no_more_folds_than_one_wants():
    edges = {f"{'abcdefghij'[n % 10]}q{n}z": [] for n in range(100)}
    assert len(fold(edges, {}).folds) == 100
    assert len(fold(edges, {}, most=20).folds) == 1
    chain = {n: [n - 1] if n else [] for n in range(100)}
    assert 10 < len(fold(chain, {}, most=20).folds) <= 20


@pytest.mark.parametrize(("abreast", "way"), [(0, "TB"), (6, "TB"), (7, "LR")])
def test_wide_graphs_go_from_left_to_right(abreast, way):
    assert direction({"first": [], **{n: ["first"] for n in range(abreast)}}) == way
