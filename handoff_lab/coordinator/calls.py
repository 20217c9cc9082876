"""How each function of a run is called: turns the scheduler's ``Start`` into an ``Attempt`` that a node can run."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

from handoff_lab._names import writable
from handoff_lab.coordinator.codes import CodeBook
from handoff_lab.graph import Argument, Function
from handoff_lab.messages import (
    Attempt,
    Constant,
    Evaluate,
    Failure,
    Recipe,
    RunsIn,
    Source,
    Start,
    Term,
    Use,
)
from handoff_lab.resources import Resources
from handoff_lab.scheduler import Program

LABEL_LIMIT = 200  # characters of an id that a node is told


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a function is called, but for constants of its own: most functions of a run share one."""

    codes: tuple[str, ...]  # keys
    cost: Resources
    runs_in: RunsIn = "process"
    timeout_s: float | None = None
    retry_on: str | None = None  # key of the exceptions that are worth another attempt; None: every Exception
    recipe: Recipe | None = None  # None: the inputs in order, then ``extra_args``
    broken: Failure | None = None  # why its code can't go to another process


class Calls:
    """The calls of one run. All code and constants are pickled now: a later edit of a cell doesn't reach this run."""

    def __init__(
        self, program: Program, functions: Mapping[Hashable, Function], codes: CodeBook, setup: Sequence[str]
    ) -> None:
        self._program = program
        self._functions = functions
        self._codes = codes
        self._setup = tuple(codes.key(source) for source in setup)
        self._inline = {id for id, function in functions.items() if function.type == "inline"}
        self._shared: dict[tuple[object, ...], _Manner] = {}
        self._manners = [self._describe(index) for index in range(len(program.functions))]
        self._packed = [self._pack(index) for index in range(len(program.functions))]
        self._shared.clear()

    def without_code(self, program: Program) -> Calls:
        """The same for a coordinator elsewhere, which has ``program`` without its code: it needs keys only."""
        bare = copy(self)
        bare._program, bare._functions, bare._codes = program, {}, CodeBook(program.run, pickle=True)
        bare._manners = [manner if manner.recipe is None else replace(manner, recipe=None) for manner in self._manners]
        return bare

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
        manner = self._manners[index]
        recipe: Recipe | bytes | None
        if scheduled.function is None:
            recipe = Recipe((Use(0), Constant(start.node), Constant(target_node)))
        elif not elsewhere:
            recipe = manner.recipe or _with_extra(scheduled.function, len(start.sources))
        elif isinstance(packed := self._packed[index], Failure):
            return packed
        else:
            recipe = packed
        if elsewhere and manner.broken is not None:
            return manner.broken
        return Attempt(
            start.id,
            start.node,
            writable(str(scheduled.id))[:LABEL_LIMIT],
            manner.codes,
            tuple([Source(key, node) for key, node in start.sources]) if start.sources else (),
            recipe,
            manner.cost,
            start.priority,
            manner.runs_in,
            manner.timeout_s,
            manner.retry_on,
            self._setup,
            start.granted,
        )

    def _describe(self, index: int) -> _Manner:
        scheduled = self._program.functions[index]
        function = scheduled.function
        if function is None:
            return self._describe_hidden(index)
        if not self._is_simple(function, len(scheduled.inputs)):
            return self._manner(function, *self._written(function))
        alike = (id(function.code), id(function.cost), function.runs_in, function.timeout, id(function.retry_on))
        known = self._shared.get(alike)
        if known is None:
            known = self._shared[alike] = self._manner(function, [self._codes.key(function.code)], None)
        return known

    def _describe_hidden(self, index: int) -> _Manner:
        """Of a serializer, or an input, which is never called."""
        serializer = self._program.serializers.get(index)
        if serializer is None:
            return _NEVER
        key = self._codes.key(serializer)
        return _Manner((key,), _NEVER.cost, broken=self._codes.broken.get(key))

    def _manner(self, function: Function, keys: Sequence[str], recipe: Recipe | None) -> _Manner:
        retry_on = None if function.retry_on is Exception else self._codes.key(function.retry_on)
        failures = (self._codes.broken[key] for key in (*keys, retry_on) if key in self._codes.broken)
        return _Manner(
            tuple(keys),
            function.cost,
            function.runs_in,
            function.timeout,
            retry_on,
            recipe,
            next(failures, None),
        )

    def _written(self, function: Function) -> tuple[list[str], Recipe]:
        """Keys of all code that a call of ``function`` takes, and its recipe."""
        keys = [self._codes.key(function.code)]
        return keys, _RecipeWriter(self._program, self._functions, self._codes, function, keys).write(function)

    def _pack(self, index: int) -> bytes | Failure | None:
        function = self._program.functions[index].function
        if function is None:
            return None
        arguments = self._manners[index].recipe or function.extra_args
        return self._codes.packed(arguments) if arguments else None

    def _is_simple(self, function: Function, inputs: int) -> bool:
        """Whether it takes its inputs in order, each once and by position, and then ``extra_args`` alone."""
        if function.kwargs or function.parameters is not None or function.argument_inclusion != "variadic":
            return False
        args = function.args
        if not args:
            return True
        if len(args) != inputs or (Argument in map(type, args) and not all(map(_is_plain, function.arguments))):
            return False
        return not self._inline or self._inline.isdisjoint(function.dependencies)


_NEVER = _Manner((), Resources())


def _is_plain(argument: Argument) -> bool:
    return argument.serialize is None and argument.deserialize is None and argument.argument_inclusion == "variadic"


def _with_extra(function: Function, inputs: int) -> Recipe | None:
    """The recipe, for a node in this process, of a function that takes its inputs and then ``extra_args``."""
    if not function.extra_args:
        return None
    return Recipe((*map(Use, range(inputs)), *map(Constant, function.extra_args)))


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
