"""The notebook's graph as a plain Python module that runs it."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from handoff_lab._errors import HandoffError
from handoff_lab.graph import DAG, Function
from handoff_lab.graph.writing import SourceWriter
from handoff_lab.notebook.freshness import inputs

_DEFAULTS = {name: p.default for name, p in inspect.signature(Function).parameters.items() if p.default is not p.empty}


def module_source(dag: DAG, setup: Sequence[str], nodes: Mapping[str, Mapping[str, float]] | None) -> str:
    """Source of a module with the functions of ``dag`` marked, all that they use, and a main block that runs them.

    Raises
    ------
    HandoffError
        When something cannot be written as text; it says which function uses it.
    """
    _no_lone_inputs(dag)
    writer = _ModuleWriter()
    for made in dag.functions.values():
        if made.type != "input":
            writer.add_function(made)
    if inputs(dag):
        writer.needs("import ast")
    head = [f'"""The graph {dag.name!r}, exported from a notebook."""', "\n".join(writer.imports())]
    if setup:
        head.append(f"SETUP = {list(setup)!r}  # each slot of each node executes this first")
    if writer.constants:
        head.append("\n".join(writer.constants.values()))
    return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join([*writer.definitions.values(), _main(dag, setup, nodes)]) + "\n"


def _no_lone_inputs(dag: DAG) -> None:
    inferred = DAG().add(*(f for f in dag.functions.values() if f.type != "input"))
    for id in inputs(dag):
        if id not in inferred:
            raise HandoffError(
                f"the input {id!r} cannot be exported: name it as a parameter of a function, without args="
            )


def _main(dag: DAG, setup: Sequence[str], nodes: Mapping[str, Mapping[str, float]] | None) -> str:
    options = ""
    lines = ['if __name__ == "__main__":', f"    dag = hl.DAG.from_module(sys.modules[__name__], {dag.name!r})"]
    if inputs(dag):
        lines += [
            f"    # the inputs are given as words: {' '.join(f'{id}=VALUE' for id in inputs(dag))}",
            '    given = dict(word.split("=", 1) for word in sys.argv[1:])',
            "    inputs = {name: ast.literal_eval(text) for name, text in given.items()}",
        ]
        options += ", inputs=inputs"
    if setup:
        options += ", setup=SETUP"
    asked = "" if nodes is None else repr({name: dict(capabilities) for name, capabilities in nodes.items()})
    lines += [
        f"    with hl.Cluster({asked}) as cluster:",
        f"        run = cluster.execute(dag{options})",
        "        for id in dag:",
        "            if id in run.results and not dag.dependents(id):",
        '                print(f"{id} = {run.results[id]!r}")',
    ]
    return "\n".join(lines)


class _ModuleWriter(SourceWriter):
    """Writes functions with their marks."""

    def __init__(self) -> None:
        super().__init__({"hl": sys.modules["handoff_lab"], "sys": sys, "ast": ast})
        self.needs("import handoff_lab as hl")
        self.needs("import sys")
        self._marked: dict[str, Hashable] = {}

    def add_function(self, made: Function) -> None:
        """Write one function of the graph with its mark."""
        self.user = str(made.id)
        code = made.code
        name = getattr(code, "__name__", "")
        if not name.isidentifier() or not inspect.isfunction(inspect.unwrap(code)):  # type: ignore[arg-type]
            raise HandoffError(f"{made.id!r} cannot be exported: it is {code!r}; write it as a def")
        if name in self._marked:
            raise HandoffError(
                f"{made.id!r} cannot be exported: {self._marked[name]!r} is made of {name} too; write two defs"
            )
        self._marked[name] = made.id
        self.claim(name, code)
        options = "".join(f"{key}={self.express(value)}, " for key, value in _options(made, name))
        mark = f"@hl.function({options.removesuffix(', ')})\n" if options else "@hl.function\n"
        self.define(name, code, mark)


def _options(made: Function, name: str) -> Iterator[tuple[str, Any]]:
    """Options of the mark that are not the default."""
    if made.id != name:
        yield "id", made.id
    if made.inferred is None:
        yield "args", dict(zip(made.parameters, made.args, strict=True)) if made.parameters else list(made.args)
    for option, default in _DEFAULTS.items():
        value = getattr(made, option)
        if option == "over" and value is not None and not isinstance(value, range | tuple):
            kind = type(value).__name__
            raise HandoffError(f"{made.id!r} cannot be exported: over is of type {kind}; write a range or a list")
        if option not in ("code", "args") and value != default and value not in ((), {}):
            yield option, value
