"""The picture of a DAG: what needs what, what it costs, and where it goes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import replace

from handoff_lab._items import Joined
from handoff_lab._units import format_bytes, format_cost, format_seconds
from handoff_lab.graph import DAG, Argument, Collocated, Function
from handoff_lab.visualization.fold import Fold, fold, is_big, maps_in
from handoff_lab.visualization.palette import ALARM, NodeMark, NodeMarks
from handoff_lab.visualization.picture import Picture
from handoff_lab.visualization.sketch import Arrow, Box, Sketch, joined, shortened, title_of
from handoff_lab.visualization.sources import Placement, allocations_of, nodes_of


def dag(dag: DAG, placement: Placement = None) -> Picture:
    """Draw a DAG; it need not be valid, so a half-written one can be looked at.

    Costs and docstrings show on hover. Ellipses are inputs, dashed boxes inline functions, dotted lines join functions
    that share a node, a circle on an arrow is a serializer (at its tail) or a deserializer (at its tip). Graphs of
    hundreds of functions are folded.

    Parameters
    ----------
    placement
        A run, a plan, or a mapping of function id to node: gives each function the colour and letter of its node.

    Returns
    -------
    graphviz.Digraph
        Also shows itself where Graphviz is not installed.
    """
    return Picture.of(sketch_dag(dag, placement))


def sketch_dag(dag: DAG, placement: Placement = None, stale: Collection[Hashable] = ()) -> Sketch:
    """What `dag` draws; the results of functions in ``stale`` are out of date."""
    allocations = allocations_of(placement)
    pins = {id: function.node for id, function in dag.functions.items() if isinstance(function.node, str)}
    marks = NodeMarks([*nodes_of(placement), *pins.values()])
    places = pins | allocations

    def mark_of(id: Hashable) -> NodeMark | None:
        return marks[places[id]] if id in places else None

    def box_of(function: Function, key: str) -> Box:
        box = function_box(function, key, mark_of(function.id))
        return replace(box, note=joined(["stale", box.note]), line=ALARM, width=2.0) if function.id in stale else box

    def fold_of(folded: Fold, key: str) -> Box:
        count = sum(id in stale for id in folded.members)
        return fold_box(folded, key, only([mark_of(id) for id in folded.members]), f"{count} stale" if count else "")

    return sketch_graph(dag, box_of, fold_of, marks)


def sketch_graph(
    dag: DAG,
    box_of: Callable[[Function, str], Box],
    fold_of: Callable[[Fold, str], Box],
    marks: NodeMarks,
    caption: str = "",
) -> Sketch:
    """The sketch of a graph, folded when it is big; the callables say how functions look."""
    functions = dag.functions
    needs = {id: function.dependencies for id, function in functions.items()}
    nodes = tuple(marks.values())
    parts = _parts(functions)
    keys: dict[Hashable, str] = {id: f"n{number}" for number, part in enumerate(parts) for id in part}
    if is_big(needs) and (len(parts) == len(functions) or is_big(_between(needs, keys))):
        folded = fold(needs, {id: function.group for id, function in functions.items()})
        return Sketch(
            name=dag.name,
            boxes=tuple(fold_of(part, f"n{number}") for number, part in enumerate(folded.folds)),
            arrows=tuple(
                Arrow(f"n{tail}", f"n{head}", tooltip=f"{count} edges", count=count)
                for (tail, head), count in folded.edges.items()
            ),
            nodes=nodes,
            caption=joined([caption, f"{len(functions)} functions, folded"]),
        )
    boxes = [
        box_of(functions[part[0]], keys[part[0]])
        if len(part) == 1
        else fold_of(Fold(title_of(part[-1]), tuple(part)), keys[part[0]])
        for part in parts
    ]
    missing = dict.fromkeys(need for wanted in needs.values() for need in wanted if need not in keys)
    for id in missing:
        keys[id] = f"n{len(boxes)}"
        boxes.append(_missing_box(id, keys[id]))
    return Sketch(dag.name, tuple(boxes), tuple(_arrows(functions, keys)), nodes, caption)


def _parts(functions: Mapping[Hashable, Function]) -> list[list[Hashable]]:
    """What gets a box each: functions, and the chunks of a map with what joins them, which is the last."""
    maps = maps_in(functions.values())
    if not maps:
        return [[id] for id in functions]
    parts: list[list[Hashable]] = []
    of_map: dict[str | None, list[Hashable]] = {}
    for id, function in functions.items():
        if function.group not in maps:
            parts.append([id])
        elif function.group in of_map:
            of_map[function.group].append(id)
        else:
            parts.append(of_map.setdefault(function.group, [id]))
    return parts


def _between(needs: Mapping[Hashable, Iterable[Hashable]], keys: Mapping[Hashable, str]) -> dict[str, set[str]]:
    """Each part with those that it depends on."""
    between: dict[str, set[str]] = {}
    for id, wanted in needs.items():
        between.setdefault(keys[id], set()).update(keys[need] for need in wanted if need in keys)
    for key, wanted_keys in between.items():
        wanted_keys.discard(key)
    return between


def function_box(function: Function, key: str, mark: NodeMark | None) -> Box:
    """How a function of a DAG looks."""
    box = Box(
        key=key,
        title=title_of(function.id),
        note=_note(function),
        tooltip=function_tooltip(function, mark),
        mark=mark,
        group=function.group,
    )
    return styled(box, function)


def styled(box: Box, function: Function) -> Box:
    """``box`` in the shape of its function's type and the colours of its node."""
    if function.type == "input":
        return replace(box, shape="ellipse", style="filled", mark=None)
    if function.type == "inline":
        return replace(box, style="rounded,filled,dashed", mark=None)
    if box.mark is not None:
        return replace(box, fill=box.mark.tint, line=box.mark.colour)
    return box


def fold_box(folded: Fold, key: str, mark: NodeMark | None, note: str = "", count: int = 0) -> Box:
    """How several functions in one box look; ``count`` is how many of them run, where that is known."""
    title = shortened(folded.title)
    if len(folded.members) > 1:
        title = f"{title} ×{count or len(folded.members)}"
    shown = ", ".join(title_of(id) for id in folded.members[:8])
    tooltip = f"{title}\n{shown}{', …' if len(folded.members) > 8 else ''}"
    if mark is None:
        return Box(key, title, note, tooltip, width=2.0)
    return Box(key, title, note, tooltip, mark, width=2.0, fill=mark.tint, line=mark.colour)


def only(marks: list[NodeMark | None]) -> NodeMark | None:
    """The one mark that all have, or None."""
    return marks[0] if len(set(marks)) == 1 else None


def function_tooltip(function: Function, mark: NodeMark | None = None) -> str:
    """All that is known of a function, a line each."""
    duration = function.duration
    lines = [
        title_of(function.id),
        _summary(function),
        None if function.over is None else f"for each of {len(function.over):,} items",
        f"costs {format_cost(function.cost)}" if function.type == "regular" else f"{function.type} function",
        f"on node {mark.name}" if mark else None,
        f"pinned to {function.node}" if isinstance(function.node, str) else None,
        f"on the node of {title_of(function.node.id)}" if isinstance(function.node, Collocated) else None,
        f"about {format_seconds(duration)}" if isinstance(duration, int | float) else None,
        f"makes about {format_bytes(function.output_size)}" if function.output_size else None,
    ]
    return joined(lines, "\n")


def _note(function: Function) -> str:
    pin = f"pinned to {shortened(function.node, 20)}" if isinstance(function.node, str) else None
    kind = function.type if function.type != "regular" else None
    items = None if function.over is None else f"{len(function.over):,} items"
    return joined([kind, items, format_cost(function.cost) if function.cost else None, pin])


def _summary(function: Function) -> str | None:
    """The first line of the docstring; a wrapper's own is nobody's."""
    text = inspect.getdoc(function.code) if inspect.isfunction(function.code) else None
    return shortened(text.split("\n", 1)[0], 100) if text else None


def _missing_box(id: Hashable, key: str) -> Box:
    note = "missing"
    tooltip = f"{title_of(id)} is needed but not in the DAG"
    return Box(key, title_of(id), note, tooltip, style="filled,dashed", line=ALARM, width=2.0)


def _arrows(functions: Mapping[Hashable, Function], keys: Mapping[Hashable, str]) -> list[Arrow]:
    arrows: dict[tuple[str, str], Arrow] = {}
    for id, function in functions.items():
        for argument in function.arguments:
            tail, head = keys[argument.id], keys[id]
            if tail != head:
                arrows.setdefault((tail, head), _arrow(argument, id, tail, head, functions.get(argument.id)))
    return [*arrows.values(), *_ties(functions, keys)]


def _arrow(argument: Argument, id: Hashable, tail: str, head: str, producer: Function | None) -> Arrow:
    lines = [f"{title_of(argument.id)} → {title_of(id)}"]
    for verb, code in (("serialize", argument.serialize), ("deserialize", argument.deserialize)):
        if code is not None:
            lines.append(f"{verb}: {getattr(code, '__qualname__', type(code).__qualname__)}")
    if argument.nbytes is not None:
        lines.append(f"about {format_bytes(argument.nbytes)}")
    return Arrow(
        tail,
        head,
        tooltip="\n".join(lines),
        style="dashed" if _is_inline(producer) else "solid",
        tail_mark=argument.serialize is not None,
        head_mark=argument.deserialize is not None,
    )


def _is_inline(producer: Function | None) -> bool:
    """Whether it was given as inline: a map was not, though what joins its chunks is."""
    return producer is not None and producer.type == "inline" and not isinstance(producer.code, Joined)


def _ties(functions: Mapping[Hashable, Function], keys: Mapping[Hashable, str]) -> list[Arrow]:
    """Lines between functions that share a node."""
    return [
        Arrow(
            keys[function.node.id],
            keys[id],
            tooltip=f"{title_of(id)} runs on the node of {title_of(function.node.id)}",
            style="dotted",
            directed=False,
        )
        for id, function in functions.items()
        if isinstance(function.node, Collocated) and function.node.id in keys
    ]
