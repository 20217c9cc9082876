"""How each function of a run is called: turns the scheduler's ``Start`` into an ``Attempt`` that a node can run."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from handoff_lab.coordinator.codes import CodeBook
from handoff_lab.graph import Argument, Function
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    Constant,
    Evaluate,
    Failure,
    Recipe,
    Source,
    Start,
    Term,
    Use,
)
from handoff_lab.scheduler import Program


@dataclass(frozen=True, slots=True)
class _Call:
    """How one function is called: keys of its code and the recipe, live and pickled."""

    codes: tuple[str, ...]
    recipe: Recipe | None = None
    packed: bytes | None = None
    retry_on: str | None = None  # key of the exceptions that are worth another attempt; None: every Exception
    broken: Failure | None = None  # why it can't go to another process


class Calls:
    """The calls of one run.

    ``inline`` gives the frames of small values that the coordinator holds itself, so that they travel with the attempt.
    """

    def __init__(
        self,
        program: Program,
        functions: Mapping[Hashable, Function],
        codes: CodeBook,
        setup: Sequence[str],
        inline: Mapping[AttemptId, tuple[bytes, ...]],
    ) -> None:
        self._program = program
        self._functions = functions
        self._codes = codes
        self._setup = tuple(codes.key(source) for source in setup)
        self._inline = inline
        # all code is pickled now: a later edit of a notebook cell doesn't reach this run
        self._calls = [self._describe(index) for index in range(len(program.functions))]

    def attempt(self, start: Start, target_node: str, elsewhere: bool) -> Attempt | Failure:
        """The attempt that ``start`` asks for, or why it can't be made.

        Parameters
        ----------
        target_node
            The node of the consumer when it is a serializer that starts.
        elsewhere
            Whether the node is another process, to which code and constants go pickled.
        """
        index = start.id.function
        scheduled = self._program.functions[index]
        function = scheduled.function
        call = self._calls[index]
        if elsewhere and call.broken is not None:
            return call.broken
        recipe = call.packed if elsewhere else call.recipe
        if function is None:
            recipe = Recipe((Use(0), Constant(start.node), Constant(target_node)))
        return Attempt(
            start.id,
            start.node,
            str(scheduled.id),
            call.codes,
            tuple(Source(key, node, self._inline.get(key)) for key, node in start.sources),
            recipe,
            scheduled.cost,
            start.priority,
            function.runs_in if function else "process",
            function.timeout if function else None,
            call.retry_on,
            self._setup,
        )

    def _describe(self, index: int) -> _Call:
        scheduled = self._program.functions[index]
        if scheduled.beside is not None:
            key = self._codes.key(self._program.serializers[index])
            return _Call((key,), broken=self._codes.broken.get(key))
        if scheduled.function is None:  # an input
            return _Call(())
        function = scheduled.function
        keys = [self._codes.key(function.code)]
        retry_on = None if function.retry_on is Exception else self._codes.key(function.retry_on)
        recipe: Recipe | None = None
        packed: bytes | Failure | None = None
        if not self._is_plain(function):
            recipe = _RecipeWriter(self._program, self._functions, self._codes, function, keys).write(function)
            packed = self._codes.packed(recipe)
        failures = (self._codes.broken[key] for key in (*keys, retry_on) if key in self._codes.broken)
        if isinstance(packed, Failure):
            return _Call(tuple(keys), recipe, None, retry_on, packed)
        return _Call(tuple(keys), recipe, packed, retry_on, next(failures, None))

    def _is_plain(self, function: Function) -> bool:
        return (
            not function.extra_args
            and not function.kwargs
            and function.parameters is None
            and function.argument_inclusion == "variadic"
            and len(function.dependencies) == len(function.arguments)
            and all(self._is_plain_argument(argument) for argument in function.arguments)
        )

    def _is_plain_argument(self, argument: Argument) -> bool:
        return (
            argument.serialize is None
            and argument.deserialize is None
            and argument.argument_inclusion == "variadic"
            and self._functions[argument.id].type != "inline"
        )


class _RecipeWriter:
    """Writes the recipe of one function, with the inline functions that are evaluated in it."""

    def __init__(
        self,
        program: Program,
        functions: Mapping[Hashable, Function],
        codes: CodeBook,
        consumer: Function,
        keys: list[str],
    ) -> None:
        self._program = program
        self._functions = functions
        self._codes = codes
        self._consumer = consumer
        self._keys = keys  # grows as code is named
        inputs = program.functions[program.index[consumer.id]].inputs
        self._positions = {producer: position for position, producer in enumerate(inputs)}
        self._inlined: dict[Hashable, Evaluate] = {}

    def write(self, function: Function) -> Recipe:
        """How ``function``, the consumer or an inline function inside it, is called."""
        terms = [self._term(argument) for argument in function.arguments]
        extra = tuple(Constant(value) for value in function.extra_args)
        kwargs: dict[str, Term | tuple[Term, ...]] = {k: Constant(v) for k, v in function.kwargs.items()}
        if function.parameters is not None:
            kwargs |= zip(function.parameters, terms, strict=True)
            return Recipe(extra, tuple(kwargs.items()))
        if function.argument_inclusion == "as_list":
            return Recipe((tuple(terms), *extra), tuple(kwargs.items()))
        return Recipe((*_gather(function.arguments, terms), *extra), tuple(kwargs.items()))

    def _term(self, argument: Argument) -> Term:
        producer = self._functions[argument.id]
        if producer.type == "inline":
            if producer.id not in self._inlined:
                code = self._name(producer.code)
                self._inlined[producer.id] = Evaluate(code, self.write(producer))
            return self._inlined[producer.id]
        deserialize = None if argument.deserialize is None else self._name(argument.deserialize)
        return Use(self._positions[self._program.producer(argument, self._consumer)], deserialize)

    def _name(self, code: object) -> int:
        self._keys.append(self._codes.key(code))
        return len(self._keys) - 1


def _gather(arguments: Sequence[Argument], terms: Sequence[Term]) -> Iterator[Term | tuple[Term, ...]]:
    """Terms in order; those to be passed as one list take the place of the first of them."""
    listed = tuple(t for a, t in zip(arguments, terms, strict=True) if a.argument_inclusion == "as_list")
    done = False
    for argument, term in zip(arguments, terms, strict=True):
        if argument.argument_inclusion != "as_list":
            yield term
        elif not done:
            done = True
            yield listed
