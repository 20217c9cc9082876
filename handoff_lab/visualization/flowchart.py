"""A DAG as Mermaid text, for README files and web pages."""

from __future__ import annotations

import re
from collections.abc import Hashable

from handoff_lab.graph import DAG, Collocated, Function
from handoff_lab.visualization.sketch import title_of

# All that has a meaning in Mermaid or HTML, as the entity codes that Mermaid reads. "#" begins such a code itself.
_SPECIAL = re.compile(r"[^\w .,+/=-]")


def mermaid(dag: DAG) -> str:
    """A DAG as a Mermaid flowchart. Rounded ends are inputs, dashed arrows come from inline functions.

    Examples
    --------
    >>> dag = DAG("sum").add(Function("xs", list), Function("agg", sum, args=["xs"], cost={"cpu": 1}))
    >>> print(mermaid(dag))
    flowchart TD
        n0["xs"]
        n1["agg"]
        n0 --> n1
    """
    functions = dag.functions
    keys: dict[Hashable, str] = {id: f"n{number}" for number, id in enumerate(functions)}
    lines = [f"    {keys[id]}{_shape(function)}" for id, function in functions.items()]
    for id, function in functions.items():
        for need in function.dependencies:
            if need not in keys:
                keys[need] = f"n{len(keys)}"
                lines.append(f'    {keys[need]}["{_text(title_of(need))} #40;missing#41;"]')
            inline = need in functions and functions[need].type == "inline"
            lines.append(f"    {keys[need]} {'-.->' if inline else '-->'} {keys[id]}")
        if isinstance(function.node, Collocated) and function.node.id in keys:
            lines.append(f"    {keys[function.node.id]} -.- {keys[id]}")
    return "\n".join(["flowchart TD", *lines])


def _shape(function: Function) -> str:
    text = _text(title_of(function.id))
    if function.type == "input":
        return f'(["{text}"])'
    if function.type == "inline":
        return f'("{text}")'
    if isinstance(function.node, str):
        return f'["{text}<br/>{_text("on " + title_of(function.node))}"]'
    return f'["{text}"]'


def _text(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)
