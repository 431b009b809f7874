"""Templates as trees: `{% generation %}` blocks, and loops and `~` that pay; used by the sandbox."""

from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from services.common.rendering.budget import TemplateLimit

COUNTED = "_counted"
"""Name of the filter that loops draw their values through."""
CONCATENATED = "_concatenated"
"""Name of the filter that stands in for `~`."""


class GenerationBlocks(Extension):
    """Accepts `{% generation %}` blocks and writes what is in them: the renderer finds the assistant's text without them."""

    tags = {"generation"}  # noqa: RUF012 (the type is Jinja's)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def metered(tree: nodes.Template) -> nodes.Template:
    """The same template, with every loop and every `~` paying."""
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            raise TemplateLimit(f"line {loop.lineno} has a recursive loop")
        weight = nodes.Const(_static_characters(loop.body), lineno=loop.lineno)
        loop.iter = nodes.Filter(loop.iter, COUNTED, [weight], [], None, None, lineno=loop.lineno)
    _meter_concatenations(tree)
    if tree.environment is not None:
        tree.set_environment(tree.environment)
    return tree


def _meter_concatenations(node: nodes.Node) -> None:
    for name, value in list(node.iter_fields()):
        if isinstance(value, list):
            setattr(node, name, [_metered_expression(item) for item in value])
        else:
            setattr(node, name, _metered_expression(value))


def _metered_expression(value: Any) -> Any:
    if not isinstance(value, nodes.Node):
        return value
    _meter_concatenations(value)
    if isinstance(value, nodes.Concat):
        parts = nodes.List(value.nodes, lineno=value.lineno)
        return nodes.Filter(parts, CONCATENATED, [], [], None, None, lineno=value.lineno)
    return value


def _static_characters(body: list[nodes.Node]) -> int:
    """Of the template's own text that one turn of a loop writes; inner loops count their own."""
    total = 0
    for node in body:
        if isinstance(node, nodes.TemplateData):
            total += len(node.data)
        elif not isinstance(node, nodes.For):
            total += _static_characters(list(node.iter_child_nodes()))
    return total
