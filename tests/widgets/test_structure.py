"""What the browser gets of a graph, at every size."""

import json
import random
import time

import pytest

from handoff_lab import DAG, Argument, Function, collocated
from handoff_lab.widgets.structure import MOST_FOLDS, MOST_SHAPES, structure_of


def shrink(value, source, target):
    return value


def pipeline():
    return DAG("images").add(
        Function("path", type="input"),
        Function("scale", lambda: 2, type="inline"),
        Function(("load", 1), max, ["path"]),
        Function("blur_1", max, [Argument(("load", 1), serialize=shrink), "scale"], group="blurs"),
        Function("blur_2", max, [Argument(("load", 1), deserialize=shrink), ("load", 1)], group="blurs"),
        Function("agg", max, ["blur_1", "blur_2"], node=collocated(("load", 1))),
    )


def grid(functions, width=25, seed=1):
    """Layers of ``width`` functions, with 1.6 edges to each from the layers just before it."""
    chance = random.Random(seed)
    dag = DAG("grid")
    dag.add(
        *(
            Function(
                f"f{n}",
                max,
                [f"f{m}" for m in chance.sample(range(max(0, n - 2 * width), n - width + 1), chance.choice([1, 2, 2]))]
                if n > width
                else [],
            )
            for n in range(functions)
        )
    )
    assert len(dag.functions) == functions  # resolved here: the clock is to measure the structure
    return dag


def members_of(structure):
    return [member for shape in structure["layout"]["shapes"] for member in shape["members"]]


def curves(structure):
    shapes = structure["layout"]["shapes"]
    return {
        (shapes[curve["from"]]["title"], shapes[curve["to"]]["title"]): (curve["kind"], curve["count"])
        for curve in structure["layout"]["curves"]
    }


def test_every_function_is_there_in_order_with_its_type_and_group():
    dag = pipeline()
    structure = structure_of(dag)
    assert structure["name"] == "images"
    assert structure["ids"] == [id if isinstance(id, str) else repr(id) for id in dag.functions]
    types = dict(zip(structure["ids"], structure["types"], strict=True))
    assert types == dict.fromkeys(structure["ids"], "r") | {"path": "v", "scale": "i"}
    assert structure["groups"] == ["blurs"]
    assert [id for id, group in zip(structure["ids"], structure["group"], strict=True) if group == 0] == [
        "blur_1",
        "blur_2",
    ]
    pairs = list(zip(structure["edges"][::2], structure["edges"][1::2], strict=True))
    named = {(structure["ids"][tail], structure["ids"][head]) for tail, head in pairs}
    assert len(named) == len(pairs) == 6
    assert {("path", "('load', 1)"), ("scale", "blur_1"), ("blur_2", "agg")} <= named
    assert ("('load', 1)", "agg") not in named  # a collocation is no dependency


def test_each_function_is_a_shape_and_each_edge_a_curve_of_its_kind():
    layout = (structure := structure_of(pipeline()))["layout"]
    assert [(shape["kind"], shape["members"]) for shape in layout["shapes"]] == [("function", [n]) for n in range(6)]
    assert [shape["title"] for shape in layout["shapes"]] == structure["ids"]
    assert [cluster["group"] for cluster in layout["clusters"]] == [0]
    assert curves(structure) == {
        ("path", "('load', 1)"): ("plain", 1),
        ("scale", "blur_1"): ("plain", 1),
        ("('load', 1)", "blur_1"): ("serialized", 1),
        ("('load', 1)", "blur_2"): ("serialized", 1),
        ("blur_1", "agg"): ("plain", 1),
        ("blur_2", "agg"): ("plain", 1),
        ("('load', 1)", "agg"): ("collocated", 1),
    }


def test_a_folded_group_is_one_shape():
    structure = structure_of(pipeline(), ["blurs", "no such group"])
    (group,) = (shape for shape in structure["layout"]["shapes"] if shape["kind"] == "group")
    assert group["title"] == "blurs ×2"
    assert [structure["ids"][member] for member in group["members"]] == ["blur_1", "blur_2"]
    assert sorted(members_of(structure)) == list(range(6))
    assert structure["layout"]["folded"] == [0]
    assert structure["layout"]["clusters"] == []
    assert curves(structure)["('load', 1)", "blurs ×2"] == ("serialized", 2)
    assert curves(structure)["blurs ×2", "agg"] == ("plain", 2)
    assert structure["edges"] == structure_of(pipeline())["edges"]


def test_the_key_is_that_of_what_is_in_it():
    one, again = structure_of(pipeline()), structure_of(pipeline())
    assert one["key"] == again["key"]
    others = [
        structure_of(pipeline(), ["blurs"]),
        structure_of(pipeline().add(Function("more", max))),
        structure_of(pipeline().replace(Function("agg", max, ["blur_1"]))),
    ]
    assert len({one["key"], *(other["key"] for other in others)}) == 4


def test_it_is_plain_json_whatever_the_ids_are():
    ids = ['"];evil [label=<b>', "<img src=x onerror=alert(1)>", "a\x00b", "\ud800", "", 7, ("x", 1), "漢字" * 40]
    structure = structure_of(DAG("d\ud800").add(*(Function(id, max, group="g\"'\ud800") for id in ids)))
    assert json.loads(json.dumps(structure, ensure_ascii=False).encode()) == structure  # as Jupyter sends it
    assert structure["ids"][:2] == ids[:2]
    shapes = structure["layout"]["shapes"]
    assert len(shapes) == len(ids)
    assert max(len(shape["title"]) for shape in shapes) <= 28
    assert 84 <= min(shape["width"] for shape in shapes) < 100 < max(shape["width"] for shape in shapes) < 480


def test_a_draft_and_an_empty_graph_have_a_structure_too():
    assert structure_of(DAG("d"))["layout"]["shapes"] == []
    draft = structure_of(DAG("d").add(Function("a", max, ["b"]), Function("b", max, ["a"]), Function("c", max, ["?"])))
    assert len(draft["edges"]) == 4
    assert len(draft["layout"]["shapes"]) == 3


def test_a_thousand_functions_are_all_drawn_and_soon():
    dag = grid(1000)
    before = time.perf_counter()
    structure = structure_of(dag)
    took = time.perf_counter() - before
    assert len(structure["layout"]["shapes"]) == 1000
    assert 1500 < len(structure["layout"]["curves"]) < 1800
    assert took < 30  # 0.2 s where nothing else runs


@pytest.mark.parametrize("functions", [MOST_SHAPES + 1, 5000])
def test_more_are_folded_and_none_is_lost(functions):
    structure = structure_of(grid(functions))
    assert 10 < len(structure["layout"]["shapes"]) <= MOST_FOLDS
    assert sorted(members_of(structure)) == list(range(functions))
    assert all(("fold" if len(s["members"]) > 1 else "function") == s["kind"] for s in structure["layout"]["shapes"])
    inside = sum(curve["count"] for curve in structure["layout"]["curves"])
    assert 0 < inside <= len(structure["edges"]) / 2


def test_folding_a_group_can_make_a_graph_small_enough():
    dag = DAG("d").add(*(Function(f"tile_{n}", max, group="tiles") for n in range(2000)), Function("end", max))
    assert {shape["kind"] for shape in structure_of(dag)["layout"]["shapes"]} == {"fold", "function"}
    shapes = structure_of(dag, ["tiles"])["layout"]["shapes"]
    assert [(shape["kind"], shape["title"], len(shape["members"])) for shape in shapes] == [
        ("group", "tiles ×2000", 2000),
        ("function", "end", 1),
    ]


def test_a_thicket_of_edges_is_folded():
    dag = DAG("d").add(
        *(
            Function(f"{'abcdefghij'[n % 10]}{n}", max, [f"{'abcdefghij'[m % 10]}{m}" for m in range(n)])
            for n in range(120)
        )
    )
    structure = structure_of(dag)
    assert len(structure["edges"]) == 120 * 119
    assert len(structure["layout"]["curves"]) < 5000
    assert sorted(members_of(structure)) == list(range(120))


def test_fifty_thousand_have_no_layout_and_take_no_time():
    dag = grid(50_000)
    before = time.perf_counter()
    structure = structure_of(dag)
    took = time.perf_counter() - before
    assert structure["layout"] is None
    assert len(structure["ids"]) == 50_000
    assert len(json.dumps(structure, separators=(",", ":"))) < 2_000_000
    assert took < 30  # 0.3 s where nothing else runs
