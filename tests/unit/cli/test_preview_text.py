"""Rendered rows: what is learned, what is cut and what is special can be told apart, with colours and without."""

import pytest
from fake_platform import a_preview

from tunesmith.cli import preview_text
from tunesmith.cli.preview_text import rendered
from tunesmith.v1.dataset_service_pb2 import PreviewToken, Rendering


def rendering(text, *tokens):
    return Rendering(
        text=text,
        tokens=[PreviewToken(id=n, start=s, end=e, trained=t, cut=c) for n, (s, e, t, c) in enumerate(tokens)],
    )


def styles(text):
    return [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]


def test_without_colours_marks_stand_around_what_is_learned_and_what_is_cut():
    text = rendered(a_preview().renderings[0], colours=False, spaces=False)
    assert text.plain == "<|user|>Hi\n⟦yes<|end|>⟧⟪ more⟫"


def test_white_space_can_be_made_visible():
    text = rendered(a_preview().renderings[0], colours=False, spaces=True)
    assert text.plain == "<|user|>Hi↵\n⟦yes<|end|>⟧⟪·more⟫"


def test_with_colours_every_use_has_its_own_and_special_tokens_stand_out():
    text = rendered(a_preview().renderings[0], colours=True, spaces=False)
    assert text.plain == a_preview().renderings[0].text
    assert styles(text) == [
        ("<|user|>", "cyan"),
        ("Hi\n", "bright_black"),
        ("yes", "bold green"),
        ("<|end|>", "bold black on green"),
        (" more", "red strike"),
    ]


def test_a_character_of_two_tokens_is_learned_when_one_of_them_is():
    text = rendering("aé", (0, 1, False, False), (1, 2, False, False), (1, 2, True, False), (1, 2, False, False))
    assert rendered(text, colours=False, spaces=False).plain == "a⟦é⟧"


def test_text_between_tokens_is_context():
    assert rendered(rendering("a b", (0, 1, True, False), (2, 3, True, False)), colours=False, spaces=False).plain == "⟦a⟧ ⟦b⟧"


def test_control_characters_of_the_data_never_reach_the_terminal():
    text = rendered(rendering("\x1b[31mred\x07", (0, 9, True, False)), colours=True, spaces=False)
    assert text.plain == "␛[31mred␇"


def test_offsets_behind_the_text_are_survived():
    assert rendered(rendering("ab", (1, 9, True, False)), colours=False, spaces=False).plain == "a⟦b⟧"


@pytest.mark.parametrize("ids", [False, True])
def test_every_rendering_has_a_heading_and_the_legend_comes_once(capsys, ids):
    preview = a_preview(3)
    preview.renderings.append(preview.renderings[0])
    preview.renderings[0].role, preview.renderings[1].role = "preferred", "non_preferred"
    preview_text.print_previews([preview], ids=ids, spaces=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "⟦…⟧ carries loss, ⟪…⟫ is cut, the rest is context"
    assert "row 3 (preferred): 6 tokens, 2 carry loss (33.3 %), 1 cut" in lines
    assert "row 3 (non_preferred): 6 tokens, 2 carry loss (33.3 %), 1 cut" in lines


def test_ids_are_a_line_a_token(capsys):
    preview_text.print_previews([a_preview()], ids=True, spaces=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert lines[2:5] == [
        ["3", "102", "context", r"'\n'"],
        ["4", "103", "trained", "'yes'"],
        ["5", "104", "trained", "'<|end|>'"],
    ]
    assert lines[5][:3] == ["6", "105", "cut"]
