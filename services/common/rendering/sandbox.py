"""The Jinja environment that chat templates run in: transformers' own, without what can grow unpaid; used by `template`.

Loops, calls, operators and the few filters that can make much from little pay into a `Budget`. Filters and text methods that no
chat template uses do not exist here: a template that names one is refused when it is compiled, or fails when it gets there.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from string import Formatter
from types import BuiltinMethodType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import loopcontrols
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from services.common.rendering.budget import Budget, TemplateLimit
from services.common.rendering.syntax import CONCATENATED, COUNTED, GenerationBlocks, metered
from services.common.rendering.trace import LOOKING_AHEAD, Talk

MAX_SOURCE_CHARACTERS = 64 * 1024
_MAX_RANGE = 100_000
_MAX_INTEGER = 2**63
_ELEMENT_CHARACTERS = 20
_FILTERS = frozenset(
    """
    abs capitalize count d default dictsort e escape first float indent int items join last length list lower map max min
    reject rejectattr replace reverse round safe select selectattr sort string title tojson trim unique upper
    """.split()  # noqa: SIM905 - a list of names reads better as a paragraph
)
_TEXT_METHODS = frozenset(
    """
    capitalize casefold count endswith find format index isalnum isalpha isdigit islower isspace isupper join lower lstrip
    partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith strip
    title upper
    """.split()  # noqa: SIM905 - a list of names reads better as a paragraph
)
# A width, a precision or a star in a format: `%999999d`, `%*d`, `{:>999999}`.
_WIDE = re.compile(r"\*|\d{4}")


class TemplateRefusal(Exception):
    """The template itself called `raise_exception`: it does not accept these messages."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and runs templates. One environment serves all threads; each sets `budget` before it renders."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        # Optimizing means to compute constant expressions while compiling, when nobody pays.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[GenerationBlocks, loopcontrols],
            finalize=_written,
        )
        self._local = threading.local()
        self._limit_names()

    @property
    def budget(self) -> Budget:
        """Of the rendering this thread is at."""
        budget: Budget = self._local.budget
        return budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        self._local.budget = budget

    @property
    def talk(self) -> Talk | None:
        """The messages of the rendering this thread is at, when it is traced."""
        talk: Talk | None = self._local.talk
        return talk

    @talk.setter
    def talk(self, talk: Talk | None) -> None:
        self._local.talk = talk

    def compiled(self, source: str) -> jinja2.Template:
        """The template; raises jinja2.TemplateSyntaxError and TemplateLimit."""
        if len(source) > MAX_SOURCE_CHARACTERS:
            raise TemplateLimit(f"it has {len(source):,} characters, at most {MAX_SOURCE_CHARACTERS:,} are read")
        return self.from_string(metered(self.parse(source)))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read the attribute; of texts only the methods that templates use."""
        if isinstance(obj, str) and attr not in _TEXT_METHODS:
            return False
        if isinstance(obj, LoopContext) and attr in LOOKING_AHEAD:
            self._note_look_ahead()
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator whose result may be bigger than what goes in."""
        if operator == "**":
            _check_power(left, right)
        elif operator == "*":
            self._pay_repetition(left, right)
        elif operator == "%" and isinstance(left, str):
            self._pay_format(left, right)
        result = self.binop_table[operator](left, right)
        self._pay_result(result)
        return result

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A function, macro or method."""
        self.budget.step()
        if called is Namespace:
            self._note_look_ahead()
        if isinstance(called, BuiltinMethodType) and isinstance(called.__self__, str):
            args = self._pay_method(called.__self__, called.__name__, args)
        result = super().call(context, called, *args, **kwargs)
        self._pay_result(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, each field paid for."""
        if not isinstance(value, BuiltinMethodType) or value.__name__ != "format" or not isinstance(value.__self__, str):
            return None
        text, formatter = value.__self__, _PaidFormatter(self)
        return lambda *args, **kwargs: formatter.vformat(text, args, kwargs)

    def _note_look_ahead(self) -> None:
        if self.talk is not None:
            self.talk.look_ahead()

    def _limit_names(self) -> None:
        self.filters = {name: call for name, call in self.filters.items() if name in _FILTERS}
        own: dict[str, Callable[..., Any]] = {
            "tojson": _to_json, "join": _join, "replace": _replace, "indent": _indent, "string": _string,
            "list": _list, "sort": _sort,
            COUNTED: _counted, CONCATENATED: _concatenated,
        }  # fmt: skip
        self.filters |= own
        for name in ("lipsum", "cycler", "joiner"):
            del self.globals[name]
        self.globals |= {"range": _short_range, "raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def _pay_result(self, result: Any) -> None:
        if isinstance(result, str | list | tuple):
            self.budget.characters(len(result))
        elif isinstance(result, int) and abs(result) > _MAX_INTEGER:
            raise TemplateLimit("it computes numbers of more than 63 bits")

    def _pay_repetition(self, left: Any, right: Any) -> None:
        for value, times in ((left, right), (right, left)):
            if isinstance(value, str | list | tuple) and isinstance(times, int):
                self.budget.characters(len(value) * max(times, 0))

    def _pay_format(self, layout: str, values: Any) -> None:
        _check_layout(layout)
        for _ in range(layout.count("%")):
            self.budget.text_of(values)

    def _pay_method(self, text: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if name == "join" and args:
            args = (list(args[0]), *args[1:])
            self.budget.text_of(args[0])
            self.budget.characters(len(text) * len(args[0]))
        elif name == "replace" and len(args) > 1:
            self.budget.characters(text.count(args[0]) * len(args[1]))
        return args


class _PaidFormatter(SandboxedFormatter):
    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        self._budget = sandbox.budget

    def format_field(self, value: Any, format_spec: str) -> Any:
        _check_layout(format_spec)
        self._budget.text_of(value)
        return Formatter.format_field(self, value, format_spec)


@jinja2.pass_context
def _written(context: Context, value: Any) -> Any:
    """Every `{{ }}`. That it asks for the context keeps Jinja from computing constant ones while compiling."""
    _budget(context.environment).text_of(value)
    return value


@jinja2.pass_environment
def _counted(environment: jinja2.Environment, values: Iterable[Any] | Talk, weight: int) -> Iterator[Any]:
    budget = _budget(environment)
    for value in values.each() if isinstance(values, Talk) else values:
        budget.step()
        budget.characters(weight)
        yield value


@jinja2.pass_environment
def _concatenated(environment: jinja2.Environment, parts: list[Any]) -> str:
    _budget(environment).text_of(parts)
    return "".join(map(str, parts))


@jinja2.pass_eval_context
def _join(context: nodes.EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    values = list(value)
    budget = _budget(context.environment)
    budget.text_of(values)
    budget.characters(len(d) * len(values))
    return str(jinja2.filters.do_join(context, values, d, attribute))


@jinja2.pass_eval_context
def _replace(context: nodes.EvalContext, s: Any, old: str, new: str, count: int | None = None) -> str:
    budget = _budget(context.environment)
    budget.text_of(s)
    budget.characters(str(s).count(old) * len(new))
    return jinja2.filters.do_replace(context, str(s), old, new, count)


@jinja2.pass_environment
def _indent(environment: jinja2.Environment, s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    size = width if isinstance(width, int) else len(width)
    _budget(environment).characters(len(s) + size * (s.count("\n") + 2))
    return jinja2.filters.do_indent(s, width, first, blank)


@jinja2.pass_environment
def _string(environment: jinja2.Environment, value: Any) -> str:
    _budget(environment).text_of(value)
    return str(value)


@jinja2.pass_environment
def _list(environment: jinja2.Environment, value: Iterable[Any]) -> list[Any]:
    budget = _budget(environment)
    values = []
    for item in value:
        budget.characters(_ELEMENT_CHARACTERS)
        values.append(item)
    return values


@jinja2.pass_environment
def _sort(environment: jinja2.Environment, value: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
    return jinja2.filters.do_sort(environment, _list(environment, value), *args, **kwargs)


@jinja2.pass_environment
def _to_json(  # noqa: PLR0917 - the parameters and their order are those of transformers
    environment: jinja2.Environment,
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes for HTML, which a model must never see."""
    if indent is not None and indent > 16:
        raise TemplateLimit("it indents JSON by more than 16 characters")
    _budget(environment).text_of(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _budget(environment: jinja2.Environment) -> Budget:
    assert isinstance(environment, Sandbox)
    return environment.budget


def _check_power(base: Any, exponent: Any) -> None:
    if not (isinstance(base, int | float) and isinstance(exponent, int | float) and abs(base) <= 2**16 and abs(exponent) <= 64):
        raise TemplateLimit("it computes large powers")


def _check_layout(layout: str) -> None:
    if _WIDE.search(layout):
        raise TemplateLimit("it formats to a width of thousands of characters")


def _short_range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > _MAX_RANGE:
        raise TemplateLimit(f"it counts over more than {_MAX_RANGE:,} numbers")
    return numbers


def _raise_exception(message: str) -> NoReturn:
    raise TemplateRefusal(message)


def _strftime_now(layout: str) -> str:
    # The one clock in here: templates that print today's date expect the local one, as in transformers.
    _check_layout(layout)
    return datetime.now().strftime(layout)
