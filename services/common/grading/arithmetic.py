"""The expressions of multi graders: a few operators and functions over named numbers, and nothing else of Python."""

import ast
import math
import operator
from collections.abc import Callable, Mapping

LONGEST = 500
"""Characters."""

_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_SIGNS: Mapping[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
FUNCTIONS = frozenset(_FUNCTIONS)
"""Names that are taken."""


class BadExpression(ValueError):
    """It is no expression of the permitted kind, or has no finite real value; the message says why."""


class Expression:
    """A checked expression; raises BadExpression."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise BadExpression(f"{len(text)} characters are more than {LONGEST}")
        try:
            # OpenAI writes ^ for powers. What Python means by it is not permitted.
            self._tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
            self.names = frozenset(_names(self._tree))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BadExpression(f"{text[:80]!r} is no expression: {error}") from None

    def value(self, numbers: Mapping[str, float]) -> float:
        """With these numbers; raises BadExpression when there is no finite real value."""
        try:
            value = _value(self._tree, numbers)
        except (ArithmeticError, ValueError, TypeError) as error:
            raise BadExpression(f"the expression has no value: {error}") from None
        if isinstance(value, complex) or not math.isfinite(value):
            raise BadExpression(f"the expression has no finite real value: {value}")
        return float(value)


def _names(node: ast.expr) -> list[str]:
    """The names of numbers in it; raises ValueError for everything that is not permitted."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return []
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _names(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _names(node.left) + _names(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords:
        if not node.args:
            raise ValueError(f"{node.func.id} without a number")
        return [name for argument in node.args for name in _names(argument)]
    raise ValueError(f"{ast.unparse(node)[:80]!r} is not permitted")


def _value(node: ast.expr, numbers: Mapping[str, float]) -> float:
    # Floats throughout: whole numbers could grow without limit.
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return float(numbers[node.id])
    if isinstance(node, ast.UnaryOp):
        return _SIGNS[type(node.op)](_value(node.operand, numbers))
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, numbers), _value(node.right, numbers))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    arguments = [_value(argument, numbers) for argument in node.args]
    function = _FUNCTIONS[node.func.id]
    return function(*arguments) if node.func.id not in ("min", "max") else function(arguments)
