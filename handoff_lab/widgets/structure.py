"""The graph as the browser gets it: ids, edges, and where everything lies.

The types are those of ``labextension/src/protocol.ts``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import Literal, TypeAlias, TypedDict
from unicodedata import east_asian_width

from handoff_lab.graph import DAG, Argument, Collocated, Function
from handoff_lab.visualization.columns import Block, Line
from handoff_lab.visualization.fold import fold, maps_in
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
    count: int = 1  # of those that run
    group: int = -1

    @property
    def block(self) -> Block:
        if self.kind == "function":
            return Block(_width(self.label), _HEIGHT, self.group)
        return Block(_width(self.label), _FOLD_HEIGHT)

    @property
    def label(self) -> str:
        title = shortened(self.title, _LONGEST_TITLE)
        return title if self.kind == "function" else f"{title} ×{self.count}"


Edge: TypeAlias = tuple[int, int, Kind]  # from, to


def structure_of(dag: DAG, folded: Collection[str] | None = None) -> Structure:
    """The structure of ``dag``; groups whose names are in ``folded``, by default its maps, are one shape each."""
    functions = dag.functions
    if folded is None:
        folded = [printable(group) for group in maps_in(functions.values())]
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
        edges=[end for tail, head, kind in edges if kind != "collocated" for end in (tail, head)],
        layout=None,
    )
    structure["layout"] = _layout(
        structure, tuple(functions.values()), edges, {number_of[name] for name in folded if name in number_of}
    )
    structure["key"] = sha256(json.dumps(structure).encode()).hexdigest()[:16]
    return structure


def _edges(functions: Mapping[Hashable, Function], index: Mapping[Hashable, int]) -> list[Edge]:
    """Every dependency once, and every collocation; those on functions that are missing are left out."""
    edges: list[Edge] = []
    for head, function in enumerate(functions.values()):
        if function.args:
            edges += [(index[id], head, kind) for id, kind in _inputs(function).items() if id in index]
        if isinstance(function.node, Collocated) and function.node.id in index:
            edges.append((index[function.node.id], head, "collocated"))
    return edges


def _inputs(function: Function) -> dict[Hashable, Kind]:
    """What a function takes, and how it comes."""
    kinds: dict[Hashable, Kind] = {}
    for arg in function.args:
        if not isinstance(arg, Argument):
            kinds.setdefault(arg, "plain")
        elif arg.serialize is not None or arg.deserialize is not None:
            kinds[arg.id] = "serialized"
        else:
            kinds.setdefault(arg.id, "plain")
    return kinds


def _layout(
    structure: Structure, functions: Sequence[Function], edges: Sequence[Edge], folded: set[int]
) -> Layout | None:
    members = _members(structure["group"], folded)
    if len(members) > MOST_DRAWN:
        return None
    if len(members) <= MOST_SHAPES and len(joins := _joins(members, edges)) <= _MOST_CURVES:
        parts = [_part(structure, functions, of_it, folded) for of_it in members]
    else:
        parts = _fewer(structure, functions, members, edges, folded)
        joins = _joins([part.members for part in parts], edges)
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


def _members(groups: Sequence[int], folded: set[int]) -> list[list[int]]:
    """The functions of each part: one, but all of a folded group."""
    if not folded:
        return [[number] for number in range(len(groups))]
    members: list[list[int]] = []
    of_group: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        if group in of_group:
            of_group[group].append(number)
            continue
        members.append([number])
        if group in folded:
            of_group[group] = members[-1]
    return members


def _part(structure: Structure, functions: Sequence[Function], members: list[int], folded: set[int]) -> _Part:
    first = members[0]
    group, title, over = structure["group"][first], structure["ids"][first], functions[first].over
    if group in folded:
        return _Part("group", structure["groups"][group], members, _count(structure, members), group)
    return _Part("function", title if over is None else f"{title} · {len(over):,} items", members, group=group)


def _count(structure: Structure, members: Sequence[int]) -> int:
    """How many of them run; of inputs and inline functions alone, how many there are."""
    return sum(structure["types"][member] == "r" for member in members) or len(members)


def _homes(members: Sequence[Sequence[int]]) -> dict[int, int]:
    """The number of each function's part."""
    return {member: number for number, of_it in enumerate(members) for member in of_it}


def _joins(members: Sequence[Sequence[int]], edges: Sequence[Edge]) -> dict[Edge, int]:
    """Each pair of parts that is joined, how, and by how many edges."""
    home = _homes(members)
    joins: dict[Edge, int] = {}
    for tail, head, kind in edges:
        join = home[tail], home[head], kind
        if join[0] != join[1]:
            joins[join] = joins.get(join, 0) + 1
    for tail, head, kind in list(joins):  # one curve for both
        if kind == "plain" and (tail, head, "serialized") in joins:
            joins[tail, head, "serialized"] += joins.pop((tail, head, kind))
    return joins


def _fewer(
    structure: Structure,
    functions: Sequence[Function],
    members: Sequence[list[int]],
    edges: Sequence[Edge],
    folded: set[int],
) -> list[_Part]:
    """Parts for those that look alike."""
    home = _homes(members)
    by_id = {functions[of_it[0]].id: of_it for of_it in members}  # each goes by its first function
    keys = list(by_id)
    needs: dict[Hashable, list[Hashable]] = {key: [] for key in keys}
    for tail, head, kind in edges:
        if kind != "collocated" and home[tail] != home[head]:
            needs[keys[home[head]]].append(keys[home[tail]])
    groups, group = structure["groups"], structure["group"]
    names = {key: groups[group[of_it[0]]] for key, of_it in by_id.items() if group[of_it[0]] >= 0} if groups else {}
    fewer = []
    for found in fold(needs, names, MOST_FOLDS).folds:
        if len(found.members) == 1:
            fewer.append(replace(_part(structure, functions, by_id[found.members[0]], folded), group=-1))
        else:
            together = list(chain.from_iterable(map(by_id.__getitem__, found.members)))
            fewer.append(_Part("fold", found.title, together, _count(structure, together)))
    return fewer


def _width(text: str) -> float:
    """Of a shape with ``text`` on it; ideographs are as wide as two letters."""
    letters = sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
    return round(max(_NARROWEST, letters * _LETTER_WIDTH + _SIDES), 1)
