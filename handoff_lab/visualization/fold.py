"""Graphs too big to look at, folded: functions that look alike become one box."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, TypeVar

from handoff_lab.visualization.sketch import title_of

Direction: TypeAlias = Literal["LR", "TB"]
_Id = TypeVar("_Id", bound=Hashable)

MOST_BOXES = 300
MOST_CROSSED = 1500  # levels that the arrows cross together; dot takes half a second for them, 15 s for 5000
_MOST_BANDS = 60
_MOST_ABREAST = 6

_NUMBERED = re.compile(r"[\W_]*\d+$")


@dataclass(frozen=True, slots=True)
class Fold:
    """Functions shown as one box."""

    title: str
    members: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded graph: folds, and for each pair of them that is joined, by how many edges."""

    folds: tuple[Fold, ...]
    edges: Mapping[tuple[int, int], int]


def is_big(edges: Mapping[_Id, Iterable[_Id]], most: int = MOST_BOXES) -> bool:
    """Whether a graph, each id with those that it depends on, is better folded."""
    return len(edges) > most or crossed(edges) > MOST_CROSSED


def fold(
    edges: Mapping[Hashable, Iterable[Hashable]], groups: Mapping[Hashable, str | None], most: int = MOST_BOXES
) -> Folded:
    """Fold by group where there is one, else by depth and name; by bands of depth when that is still too much.

    ``edges`` has each id with those that it depends on, in topological order; ``most`` is how many folds there may be.
    """
    depth = depths(edges)
    folded = _gather(
        edges, lambda vertex: _family(groups.get(vertex) or vertex, 0 if groups.get(vertex) else depth[vertex])
    )
    height = max(depth.values()) // _MOST_BANDS + 1
    while is_big(_needs(folded), most):
        folded = _gather(edges, partial(_band, depth, height))
        height *= 2
    return folded


def depths(edges: Mapping[_Id, Iterable[_Id]]) -> dict[_Id, int]:
    """How many functions come before each, along the longest way."""
    depth: dict[_Id, int] = {}
    for id, needs in edges.items():
        depth[id] = 1 + max((depth.get(need, -1) for need in needs), default=-1)
    return depth


def direction(edges: Mapping[_Id, Iterable[_Id]]) -> Direction:
    """Which way a graph is better drawn: a wide one from left to right, for lines of text are wide too."""
    return "LR" if widest(edges) > _MOST_ABREAST else "TB"


def widest(edges: Mapping[_Id, Iterable[_Id]]) -> int:
    """How many stand abreast where a graph is widest."""
    return max(Counter(depths(edges).values()).values(), default=0)


def crossed(edges: Mapping[_Id, Iterable[_Id]]) -> int:
    """How many levels the arrows cross together, which decides how long dot takes."""
    depth = depths(edges)
    return sum(max(1, depth[id] - depth.get(need, depth[id])) for id, needs in edges.items() for need in needs)


def _needs(folded: Folded) -> dict[int, list[int]]:
    """Each fold with those that it depends on."""
    needs: dict[int, list[int]] = {number: [] for number in range(len(folded.folds))}
    for tail, head in folded.edges:
        needs[head].append(tail)
    return needs


def _family(id: Hashable, depth: int) -> tuple[str, int]:
    first = id[0] if isinstance(id, tuple) and id else id
    name = title_of(first)
    return _NUMBERED.sub("", name) or name, depth


def _band(depth: Mapping[Hashable, int], height: int, id: Hashable) -> tuple[str, int]:
    band = depth[id] // height
    first = band * height
    return f"level {first}" if height == 1 else f"levels {first} to {first + height - 1}", band


def _gather(edges: Mapping[Hashable, Iterable[Hashable]], key_of: Callable[[Hashable], tuple[str, int]]) -> Folded:
    keys = {id: key_of(id) for id in edges}
    members: dict[tuple[str, int], list[Hashable]] = {}
    for id, key in keys.items():
        members.setdefault(key, []).append(id)
    place = {key: index for index, key in enumerate(members)}
    counts: dict[tuple[int, int], int] = {}
    for id, needs in edges.items():
        for need in needs:
            if need in keys and keys[need] != keys[id]:
                pair = place[keys[need]], place[keys[id]]
                counts[pair] = counts.get(pair, 0) + 1
    return Folded(tuple(Fold(key[0], tuple(ids)) for key, ids in members.items()), counts)
