"""The graph as the browser gets it: ids, edges, and where everything lies.

The types are those of ``labextension/src/protocol.ts``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal, TypedDict
from unicodedata import east_asian_width

from handoff_lab.graph import DAG, Argument, Collocated, Function
from handoff_lab.visualization.columns import Block, Line
from handoff_lab.visualization.fold import fold
from handoff_lab.visualization.placing import place
from handoff_lab.visualization.sketch import printable, shortened

MOST_SHAPES = 1500  # functions drawn one by one
MOST_FOLDS = 150
MOST_DRAWN = 20_000
_MOST_CURVES = 5000

_TYPES = {"regular": "r", "inline": "i", "input": "v"}
_LONGEST_TITLE = 28
_LETTER_WIDTH = 7.4  # of 12 px text, in a wide font
_SIDES = 56.0  # room for a node's letter and a status icon
_NARROWEST = 84.0
_HEIGHT = 34.0
_FOLD_HEIGHT = 44.0  # has a bar below its title

Kind = Literal["plain", "serialized", "collocated"]


class Shape(TypedDict):
    """A box: a function, or several."""

    kind: Literal["function", "fold", "group"]
    title: str
    x: float
    y: float
    width: float
    height: float
    members: list[int]


Curve = TypedDict("Curve", {"from": int, "to": int, "path": str, "count": int, "kind": Kind})


class Cluster(TypedDict):
    """A frame around the functions of a group."""

    group: int
    left: float
    top: float
    width: float
    height: float


class Layout(TypedDict):
    """What is where, in pixels."""

    width: float
    height: float
    shapes: list[Shape]
    curves: list[Curve]
    clusters: list[Cluster]
    folded: list[int]


class Structure(TypedDict):
    """A graph: functions by index, in topological order."""

    key: str
    name: str
    ids: list[str]
    types: str
    groups: list[str]
    group: list[int]
    edges: list[int]
    layout: Layout | None


@dataclass(frozen=True, slots=True)
class _Part:
    """What becomes one shape: a function, or several."""

    kind: Literal["function", "fold", "group"]
    title: str
    members: list[int]
    key: Hashable
    group: int = -1

    @property
    def block(self) -> Block:
        if self.kind == "function":
            return Block(_width(self.label), _HEIGHT, self.group)
        return Block(_width(self.label), _FOLD_HEIGHT)

    @property
    def label(self) -> str:
        title = shortened(self.title, _LONGEST_TITLE)
        return title if self.kind == "function" else f"{title} ×{len(self.members)}"


@dataclass(frozen=True, slots=True)
class _Edge:
    tail: int
    head: int
    kind: Kind


def structure_of(dag: DAG, folded: Collection[str] = ()) -> Structure:
    """The structure of ``dag``; groups whose names are in ``folded`` are drawn as one shape each."""
    functions = dag.functions
    index = {id: number for number, id in enumerate(functions)}
    group_of = [None if function.group is None else printable(function.group) for function in functions.values()]
    number_of = {name: number for number, name in enumerate(dict.fromkeys(filter(None, group_of)))}
    edges = _edges(functions, index)
    structure = Structure(
        key="",
        name=printable(dag.name),
        ids=[printable(id if isinstance(id, str) else repr(id)) for id in functions],
        types="".join(_TYPES[function.type] for function in functions.values()),
        groups=list(number_of),
        group=[-1 if name is None else number_of[name] for name in group_of],
        edges=[end for edge in edges if edge.kind != "collocated" for end in (edge.tail, edge.head)],
        layout=None,
    )
    structure["layout"] = _layout(
        structure, functions, edges, {number_of[name] for name in folded if name in number_of}
    )
    structure["key"] = sha256(json.dumps(structure).encode()).hexdigest()[:16]
    return structure


def _edges(functions: Mapping[Hashable, Function], index: Mapping[Hashable, int]) -> list[_Edge]:
    """Every dependency once, and every collocation; those on functions that are missing are left out."""
    edges = []
    for head, function in enumerate(functions.values()):
        kinds: dict[Hashable, Kind] = {}
        for arg in function.args:
            if not isinstance(arg, Argument):
                kinds.setdefault(arg, "plain")
            elif arg.serialize is not None or arg.deserialize is not None:
                kinds[arg.id] = "serialized"
            else:
                kinds.setdefault(arg.id, "plain")
        edges += [_Edge(index[id], head, kind) for id, kind in kinds.items() if id in index]
        if isinstance(function.node, Collocated) and function.node.id in index:
            edges.append(_Edge(index[function.node.id], head, "collocated"))
    return edges


def _layout(
    structure: Structure, functions: Mapping[Hashable, Function], edges: Sequence[_Edge], folded: set[int]
) -> Layout | None:
    parts = _parts(structure, functions, folded)
    if len(parts) > MOST_DRAWN:
        return None
    joins = _joins(parts, edges)
    if len(parts) > MOST_SHAPES or len(joins) > _MOST_CURVES:
        parts = _fewer(structure, parts, joins)
        joins = _joins(parts, edges)
    blocks = [part.block for part in parts]
    lines = [Line(tail, head, kind != "collocated") for tail, head, kind in joins]
    placed = place(blocks, lines, structure["groups"])
    return Layout(
        width=placed.width,
        height=placed.height,
        shapes=[
            Shape(
                kind=part.kind,
                title=part.label,
                x=x,
                y=y,
                width=block.width,
                height=block.height,
                members=part.members,
            )
            for part, block, (x, y) in zip(parts, blocks, placed.middles, strict=True)
        ],
        curves=[
            {"from": tail, "to": head, "path": path, "count": count, "kind": kind}
            for ((tail, head, kind), count), path in zip(joins.items(), placed.paths, strict=True)
        ],
        clusters=[
            Cluster(group=frame.group, left=frame.left, top=frame.top, width=frame.width, height=frame.height)
            for frame in placed.frames
        ],
        folded=sorted(folded),
    )


def _parts(structure: Structure, functions: Mapping[Hashable, Function], folded: set[int]) -> list[_Part]:
    """A part for each function, but one for all of a folded group."""
    parts: list[_Part] = []
    of_group: dict[int, _Part] = {}
    for number, (id, group) in enumerate(zip(functions, structure["group"], strict=True)):
        if group not in folded:
            parts.append(_Part("function", structure["ids"][number], [number], id, group))
        elif group in of_group:
            of_group[group].members.append(number)
        else:
            of_group[group] = _Part("group", structure["groups"][group], [number], object(), group)
            parts.append(of_group[group])
    return parts


def _joins(parts: Sequence[_Part], edges: Sequence[_Edge]) -> dict[tuple[int, int, Kind], int]:
    """Each pair of parts that is joined, how, and by how many edges."""
    home = {member: number for number, part in enumerate(parts) for member in part.members}
    joins: dict[tuple[int, int, Kind], int] = {}
    for edge in edges:
        tail, head = home[edge.tail], home[edge.head]
        if tail != head:
            joins[tail, head, edge.kind] = joins.get((tail, head, edge.kind), 0) + 1
    for tail, head, kind in list(joins):  # one curve for both
        if kind == "plain" and (tail, head, "serialized") in joins:
            joins[tail, head, "serialized"] += joins.pop((tail, head, kind))
    return joins


def _fewer(structure: Structure, parts: Sequence[_Part], joins: Collection[tuple[int, int, Kind]]) -> list[_Part]:
    """The parts, with those that look alike as one."""
    needs: dict[Hashable, list[Hashable]] = {part.key: [] for part in parts}
    for tail, head, kind in joins:
        if kind != "collocated":
            needs[parts[head].key].append(parts[tail].key)
    names = {part.key: structure["groups"][part.group] if part.group >= 0 else None for part in parts}
    by_key = {part.key: part for part in parts}
    fewer = []
    for found in fold(needs, names, MOST_FOLDS).folds:
        first, *others = (by_key[key] for key in found.members)
        members = [*first.members, *(member for part in others for member in part.members)]
        fewer.append(_Part("fold", found.title, members, first.key) if others else replace(first, group=-1))
    return fewer


def _width(text: str) -> float:
    """Of a shape with ``text`` on it; ideographs are as wide as two letters."""
    letters = sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
    return round(max(_NARROWEST, letters * _LETTER_WIDTH + _SIDES), 1)
