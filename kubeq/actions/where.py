"""`--where EXPR`: a condition over one task, read by a small grammar of its own and never run as code.

    x > 0.5 and name == 'a'        not (state in ('failed', 'cancelled'))        param['my column'] != ''

Comparisons (chained, `in` a list or a text), `and`, `or`, `not`, numbers, quoted texts, `None`. A bare name is a field
of the task (`FIELDS`) or, where there is none of that name, a parameter; `param.NAME` and `param['NAME']` are always
the parameter. A parameter is compared as a number with numbers and as a text with texts. A field that is absent (the
exit code of a task that has not ended) is equal to `None`, and any other comparison with it is false.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kubeq.core.model import Task
from kubeq.errors import UsageError

LONGEST_CONDITION = 2000
"""Characters: a longer condition is a slip of the finger, and nesting stays within what the parser takes."""
DEEPEST_NESTING = 100
LONGEST_NUMBER = 300
"""Digits in a cell that is read as a number; beyond that a float has no meaning for it."""
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)
HINT = "write for instance: x > 0.5 and name == 'a'"


@dataclass(frozen=True, slots=True)
class Cell:
    """The value of a parameter: text that may stand for a number."""

    name: str
    text: str


class Nothing(Enum):
    """The word `None` in a condition; an absent field is a plain None."""

    WORD = "None"


Value = None | Nothing | bool | int | float | str | Cell | tuple["Value", ...]
Reader = Callable[[Task], Value]
FIELDS: Mapping[str, Reader] = {
    "index": lambda task: task.id.index,
    "state": lambda task: str(task.state),
    "reason": lambda task: _text(task.reason),
    "attempt": lambda task: task.attempt,
    "failures": lambda task: task.failures,
    "losses": lambda task: task.losses,
    "node": lambda task: _text(task.current and task.current.node),
    "exit": lambda task: task.current.exit.code if task.current and task.current.exit else None,
    "signal": lambda task: task.current.exit.signal if task.current and task.current.exit else None,
    "wall_s": lambda task: task.current.usage.wall_s if task.current and task.current.usage else None,
    "cpu_s": lambda task: task.current.usage.cpu_s if task.current and task.current.usage else None,
    "peak_memory_bytes": lambda task: (
        task.current.usage.peak_memory_bytes if task.current and task.current.usage else None
    ),
}
_ORDERS: Mapping[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}


@dataclass(frozen=True, slots=True)
class Where:
    """A condition that has been understood."""

    text: str
    _read: Reader

    def admits(self, task: Task) -> bool:
        """Whether the condition holds. Raises UsageError naming a field that cannot be compared like that."""
        return bool(self._read(task))


def parse_where(text: str, columns: Sequence[str]) -> Where:
    """The condition for tasks whose parameters are `columns`. Raises UsageError naming what was not understood."""
    if len(text) > LONGEST_CONDITION:
        raise UsageError(f"the condition has {len(text):,} characters; the most is {LONGEST_CONDITION:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser warns about escapes in texts, which are the user's own
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"the condition {text!r} cannot be read: {_reason(error)}", hint=HINT) from None
    return Where(text, _Reading(text, columns).condition(tree.body))


class _Reading:
    """One condition being turned into functions; every kind of expression that is not listed here is refused."""

    def __init__(self, text: str, columns: Sequence[str]) -> None:
        self._text = text
        self._columns = columns
        self._depth = 0

    def condition(self, node: ast.expr) -> Reader:
        """Something that is true or false."""
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise UsageError(f"the condition {self._text[:40]!r}... is nested too deeply", hint=HINT)
        try:
            return self._condition(node)
        finally:
            self._depth -= 1

    def _condition(self, node: ast.expr) -> Reader:
        match node:
            case ast.BoolOp(op=ast.And(), values=parts):
                every = [self.condition(part) for part in parts]
                return lambda task: all(part(task) for part in every)
            case ast.BoolOp(values=parts):
                some = [self.condition(part) for part in parts]
                return lambda task: any(part(task) for part in some)
            case ast.UnaryOp(op=ast.Not(), operand=part):
                inner = self.condition(part)
                return lambda task: not inner(task)
            case ast.Compare(left=left, ops=operators, comparators=rights):
                return self._comparison([left, *rights], operators)
            case ast.Constant(value=bool() as fixed):
                return lambda task: fixed
        raise UsageError(f"{self._shown(node)} in the condition is neither true nor false", hint=HINT)

    def _comparison(self, nodes: Sequence[ast.expr], operators: Sequence[ast.cmpop]) -> Reader:
        values = [self._value(node) for node in nodes]
        steps = [
            self._step(sign, left, right) for sign, left, right in zip(operators, values, values[1:], strict=False)
        ]
        return lambda task: all(step(task) for step in steps)

    def _step(self, sign: ast.cmpop, left: Reader, right: Reader) -> Reader:
        match sign:
            case ast.In():
                return lambda task: _within(left(task), right(task))
            case ast.NotIn():
                return lambda task: not _within(left(task), right(task))
            case ast.Is() | ast.IsNot():
                raise UsageError("'is' is not understood in a condition", hint="write == None or != None")
        name, compare = _ORDERS[type(sign)]
        return lambda task: _compare(name, compare, left(task), right(task))

    def _value(self, node: ast.expr) -> Reader:
        match node:
            case ast.Constant(value=None):
                return lambda task: Nothing.WORD
            case ast.Constant(value=str() | int() | float() as fixed):
                return lambda task: fixed
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda task: -number
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                items = [self._value(part) for part in parts]
                return lambda task: tuple(item(task) for item in items)
            case ast.Name(id=name) if name in FIELDS:
                return FIELDS[name]
            case ast.Name(id=name):
                return self._parameter(name, "field or parameter")
            case ast.Attribute(value=ast.Name(id="param"), attr=name):
                return self._parameter(name, "parameter")
            case ast.Subscript(value=ast.Name(id="param"), slice=ast.Constant(value=str() as name)):
                return self._parameter(name, "parameter")
        raise UsageError(f"{self._shown(node)} is not understood in a condition", hint=HINT)

    def _parameter(self, name: str, kind: str) -> Reader:
        if name not in self._columns:
            known = ", ".join([*self._columns, *(field for field in FIELDS if field not in self._columns)])
            raise UsageError(
                f"the condition asks for the unknown {kind} {name!r}", hint=f"there are: {known}; texts need quotes"
            )
        place = self._columns.index(name)
        return lambda task: Cell(name, task.values[place])

    def _shown(self, node: ast.expr) -> str:
        return repr(ast.get_source_segment(self._text.strip(), node) or self._text)


def _within(item: Value, group: Value) -> bool:
    if isinstance(group, tuple):
        return any(_compare("==", operator.eq, item, other) for other in group)
    if item is None or group is None:
        return False
    inner, outer = _as_text(item), _as_text(group)
    if inner is None or outer is None:
        raise UsageError("'in' needs a list or a text on its right", hint="write state in ('failed', 'cancelled')")
    return inner in outer


def _compare(name: str, compare: Callable[[Any, Any], bool], left: Value, right: Value) -> bool:
    if left is Nothing.WORD or right is Nothing.WORD:
        both = all(value is None or value is Nothing.WORD for value in (left, right))
        return name == ("==" if both else "!=")
    if left is None or right is None:
        return False
    left, right = _alike(left, right)
    try:
        return compare(left, right)
    except TypeError:
        raise UsageError(
            f"the condition compares {_kind(left)} with {_kind(right)} by {name}",
            hint="texts need quotes, numbers none",
        ) from None


def _alike(left: Value, right: Value) -> tuple[Value, Value]:
    """Both as numbers or both as texts, where one of them is a parameter."""
    match left, right:
        case Cell(), Cell():
            numbers = _as_number(left.text), _as_number(right.text)
            return numbers if None not in numbers else (left.text, right.text)
        case Cell(), bool() | int() | float():
            return _number_of(left), right
        case bool() | int() | float(), Cell():
            return left, _number_of(right)
    return (
        left.text if isinstance(left, Cell) else left,
        right.text if isinstance(right, Cell) else right,
    )


def _number_of(cell: Cell) -> int | float:
    number = _as_number(cell.text)
    if number is None:
        raise UsageError(
            f"the parameter {cell.name!r} has the value {cell.text[:40]!r} in some task, which is not a number",
            hint=f"compare it with a quoted text, or exclude it first: {cell.name} != {cell.text[:40]!r} and ...",
        )
    return number


def _as_number(text: str) -> int | float | None:
    if len(text) > LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def _as_text(value: Value) -> str | None:
    if isinstance(value, Cell):
        return value.text
    return value if isinstance(value, str) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _kind(value: Value) -> str:
    match value:
        case str():
            return f"the text {value[:40]!r}"
        case tuple():
            return "a list"
        case _:
            return f"the number {value}"


def _reason(error: BaseException) -> str:
    return str(error.msg) if isinstance(error, SyntaxError) else "it is not a condition"
