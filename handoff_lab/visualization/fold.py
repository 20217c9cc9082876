"""Graphs too big to look at, folded: functions that look alike become one box."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from string import digits
from typing import Literal, TypeAlias, TypeVar

from handoff_lab._items import Joined
from handoff_lab.graph import Function
from handoff_lab.visualization.sketch import title_of

Direction: TypeAlias = Literal["LR", "TB"]
_Id = TypeVar("_Id", bound=Hashable)
_Key = TypeVar("_Key", bound=Hashable)

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
    families = _families(edges, groups, depth, most)
    folded = None if families is None else _gather(edges, families, itemgetter(0))
    height = max(depth.values()) // _MOST_BANDS + 1
    while folded is None or is_big(_needs(folded), most):
        bands = {id: level // height for id, level in depth.items()}
        folded = _gather(edges, bands, partial(_levels, height))
        height *= 2
    return folded


def maps_in(functions: Collection[Function]) -> set[str]:
    """The groups that are a map which was cut, and nothing else: it was given as one function, and is shown as one."""
    sizes = {f.group: 1 + len(f.args) for f in functions if isinstance(f.code, Joined) and f.args}
    counts = Counter(function.group for function in functions) if sizes else {}
    return {group for group, size in sizes.items() if group and counts[group] == size}


def depths(edges: Mapping[_Id, Iterable[_Id]]) -> dict[_Id, int]:
    """How many functions come before each, along the longest way."""
    depth: dict[_Id, int] = {}
    for id, needs in edges.items():
        depth[id] = 1 + max([depth.get(need, -1) for need in needs], default=-1) if needs else 0
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


def _families(
    edges: Iterable[Hashable], groups: Mapping[Hashable, str | None], depth: Mapping[Hashable, int], most: int
) -> dict[Hashable, tuple[str, int]] | None:
    """Of each id its group, else its name without a number and its depth; None where there are more than ``most``."""
    found: dict[Hashable, tuple[str, int]] = {}
    kinds: set[tuple[str, int]] = set()
    for id in edges:
        group = groups.get(id)
        kind = found[id] = (_family(group), 0) if group else (_family(id), depth[id])
        kinds.add(kind)
        if len(kinds) > most:
            return None
    return found


def _family(id: Hashable) -> str:
    name = title_of(id[0] if isinstance(id, tuple) and id else id)
    stem = name.rstrip(digits)
    return (_unnumbered(name) if stem == name else _unnumbered(f"{stem}0")) or name


@lru_cache
def _unnumbered(name: str) -> str:
    return _NUMBERED.sub("", name)


def _levels(height: int, band: int) -> str:
    first = band * height
    return f"level {first}" if height == 1 else f"levels {first} to {first + height - 1}"


def _gather(
    edges: Mapping[Hashable, Iterable[Hashable]], keys: Mapping[Hashable, _Key], title: Callable[[_Key], str]
) -> Folded:
    """One fold for each key."""
    members: dict[_Key, list[Hashable]] = {}
    for id, key in keys.items():
        members.setdefault(key, []).append(id)
    place = {key: index for index, key in enumerate(members)}
    counts: dict[tuple[int, int], int] = {}
    for id, needs in edges.items():
        for need in needs:
            if need in keys and keys[need] != keys[id]:
                pair = place[keys[need]], place[keys[id]]
                counts[pair] = counts.get(pair, 0) + 1
    return Folded(tuple(Fold(title(key), tuple(ids)) for key, ids in members.items()), counts)
