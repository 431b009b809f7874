"""Rendered rows on a terminal: colours for what is learned, cut and special, or marks where there are no colours."""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tunesmith.cli.output import percent, visible

if TYPE_CHECKING:
    from tunesmith.v1.dataset_service_pb2 import PreviewToken, Rendering, RowPreview

TRAINED, CONTEXT, CUT = "trained", "context", "cut"
_STYLES = {TRAINED: "bold green", CONTEXT: "bright_black", CUT: "red strike"}
_SPECIAL_STYLES = {TRAINED: "bold black on green", CONTEXT: "cyan", CUT: "red strike"}
_MARKS = {TRAINED: ("⟦", "⟧"), CONTEXT: ("", ""), CUT: ("⟪", "⟫")}
_SPECIAL = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
_SPACES = str.maketrans({" ": "·", "\t": "→", "\n": "↵\n"})


def print_previews(previews: "Iterable[RowPreview]", *, ids: bool, spaces: bool) -> None:
    """Every row with a heading, and the legend once."""
    colours = sys.stdout.isatty()
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(_legend(colours), soft_wrap=True)
    for preview in previews:
        for rendering in preview.renderings:
            console.print(Text(f"\n{_heading(preview, rendering)}", style="bold"), soft_wrap=True)
            body = _token_lines(rendering) if ids else rendered(rendering, colours=colours, spaces=spaces)
            console.print(body, soft_wrap=True)


def _legend(colours: bool) -> Text:
    if not colours:
        return Text("⟦…⟧ carries loss, ⟪…⟫ is cut, the rest is context")
    return Text.assemble(
        ("carries loss", _STYLES[TRAINED]), "  ", ("context", _STYLES[CONTEXT]), "  ", ("cut", _STYLES[CUT]), "  ",
        ("special token", _SPECIAL_STYLES[CONTEXT]),
    )  # fmt: skip


def _heading(preview: "RowPreview", rendering: "Rendering") -> str:
    """`row 3 (preferred): 48 tokens, 12 carry loss (25.0 %), 4 cut`."""
    total, trained = len(rendering.tokens), rendering.trainable_token_count
    role = f" ({rendering.role})" if rendering.role else ""
    cut = sum(token.cut for token in rendering.tokens)
    numbers = f"{total:,} tokens, {trained:,} carry loss ({percent(trained, total)})"
    return f"row {preview.row:,}{role}: {numbers}{f', {cut:,} cut' if cut else ''}"


def rendered(rendering: "Rendering", *, colours: bool, spaces: bool) -> Text:
    """The whole text, every character as its token is used."""
    result = Text()
    for (kind, special), piece in _spans(rendering):
        text = visible(piece.translate(_SPACES) if spaces else piece)
        if colours:
            result.append(text, style=(_SPECIAL_STYLES if special else _STYLES)[kind])
        else:
            result.append(text)
    return result if colours else _marked(rendering, spaces=spaces)


def _marked(rendering: "Rendering", *, spaces: bool) -> Text:
    """Marks around each run of characters that are used alike, special or not."""
    result = Text()
    for kind, group in groupby(_spans(rendering), key=lambda span: span[0][0]):
        text = "".join(piece for _, piece in group)
        before, after = _MARKS[kind]
        result.append(f"{before}{visible(text.translate(_SPACES) if spaces else text)}{after}")
    return result


def _spans(rendering: "Rendering") -> Iterator[tuple[tuple[str, bool], str]]:
    """Runs of characters with (use, special). A character of several tokens is trained when one of them is."""
    text = rendering.text
    use = [(CONTEXT, False)] * len(text)
    for token in rendering.tokens:
        kind, special = _kind(token), bool(_SPECIAL.fullmatch(text[token.start : token.end]))
        for position in range(token.start, min(token.end, len(text))):
            if use[position][0] != TRAINED:
                use[position] = (kind, special)
    start = 0
    for key, group in groupby(use):
        end = start + sum(1 for _ in group)
        yield key, text[start:end]
        start = end


def _kind(token: "PreviewToken") -> str:
    if token.cut:
        return CUT
    return TRAINED if token.trained else CONTEXT


def _token_lines(rendering: "Rendering") -> Text:
    """`   12   1234  "Hello"  trained`, a line a token."""
    result = Text()
    for number, token in enumerate(rendering.tokens, start=1):
        kind = _kind(token)
        piece = repr(visible(rendering.text[token.start : token.end]))
        result.append(f"{number:>5} {token.id:>7}  {kind:<7}  {piece}\n", style=_STYLES[kind])
    result.rstrip()
    return result
