"""Tab completion for the lines of the magics."""

from __future__ import annotations

from collections.abc import Iterable

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from handoff_lab.allocation import STRATEGIES
from handoff_lab.notebook.arguments import CELL, COMMANDS, Kind, Parser
from handoff_lab.notebook.freshness import inputs
from handoff_lab.notebook.session import Session


class Completion:
    """Completes commands, options, ids of functions, names of nodes, inputs and allocators."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @context_matcher(identifier="handoff_lab")  # type: ignore[untyped-decorator]
    def match(self, context: CompletionContext) -> SimpleMatcherResult:
        """What IPython asks for."""
        words = context.text_until_cursor.removesuffix(context.token).split()
        found = [word for word in self.candidates(words, context.token) if word.startswith(context.token)]
        return {
            "completions": [SimpleCompletion(word, type="magic") for word in found],
            "suppress": bool(found),  # names of variables and files are no use here
            "ordered": True,
        }

    def candidates(self, words: list[str], token: str) -> Iterable[str]:
        """What may stand after ``words``, where ``token`` has been typed so far."""
        match words:
            case ["%handoff"]:
                return COMMANDS
            case ["%handoff", name, *rest] if name in COMMANDS:
                return self._after(COMMANDS[name], rest, token)
            case ["%%handoff", *rest]:
                return [*self._after(CELL, rest, token), *([] if rest else ["setup"])]
            case ["%%on"]:
                return self._names("node")
        return ()

    def _after(self, parser: Parser, words: list[str], token: str) -> Iterable[str]:
        if token.startswith("-"):
            return [name for name in parser.options if name]
        return self._names(parser.expected(words))

    def _names(self, kind: Kind) -> list[str]:
        match kind:
            case "function":
                return [str(id) for id, f in self._session.dag.functions.items() if f.type == "regular"]
            case "input":
                return [f"{id}=" for id in inputs(self._session.dag)]
            case "node":
                return sorted(self._session.cluster.nodes) if self._session.cluster else []
            case "allocator":
                return list(STRATEGIES)
        return []
