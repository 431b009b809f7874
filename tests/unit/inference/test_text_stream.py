"""Text comes in whole characters, without any part of a stop text, and loses nothing else."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_tokenizer
from tokenizers import Tokenizer, decoders, models

from services.inference.text_stream import TextStream

TOKENIZER: Tokenizer = tiny_tokenizer()


def decode(ids: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(ids), skip_special_tokens=True))


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def deltas(text: str, stop: Sequence[str] = ()) -> tuple[list[str], bool]:
    stream = TextStream(decode, stop)
    pieces = []
    for token in encode(text):
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.flush()], stream.stopped


@given(st.text(max_size=60))
def test_the_pieces_together_are_the_text(text: str) -> None:
    pieces, stopped = deltas(text)
    assert "".join(pieces) == text.rstrip("\N{REPLACEMENT CHARACTER}")
    assert not stopped


@pytest.mark.parametrize("text", ["héllo wörld", "日本語のテキスト", "👩‍👩‍👧 family", "mixed ✓ done"])
def test_no_piece_holds_half_a_character(text: str) -> None:
    pieces, _ = deltas(text)
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert "".join(pieces) == text
    assert len([piece for piece in pieces if piece]) > 1


def test_a_character_that_never_becomes_whole_is_left_out() -> None:
    stream = TextStream(decode)
    shown = [stream.push(token) for token in encode("ok 👋")[:-1]]
    assert "".join(shown) + stream.flush() == "ok "


def test_broken_bytes_in_the_middle_do_not_hold_up_what_follows() -> None:
    lone_continuation = encode("é")[1]
    stream = TextStream(decode)
    pieces = [stream.push(token) for token in (*encode("a"), lone_continuation, *encode("bc"))]
    assert "".join(pieces) == "a\N{REPLACEMENT CHARACTER}bc"


def test_a_token_without_text_gives_an_empty_piece() -> None:
    stream = TextStream(decode)
    assert stream.push(TOKENIZER.token_to_id("<|im_start|>")) == ""
    assert stream.push(encode("a")[0]) == "a"


def test_the_text_ends_before_the_stop_text() -> None:
    pieces, stopped = deltas("one. END two", ["END"])
    assert ("".join(pieces), stopped) == ("one. ", True)


def test_the_earliest_of_several_stop_texts_counts() -> None:
    pieces, _ = deltas("abc STOP def END", ["END", "STOP"])
    assert "".join(pieces) == "abc "


def test_a_stop_text_at_the_very_beginning_leaves_nothing() -> None:
    assert deltas("END", ["END"]) == (["", "", "", ""], True)


def test_what_may_become_a_stop_text_is_held_back_until_it_does_not() -> None:
    pieces, stopped = deltas("aENb", ["END"])
    assert pieces == ["a", "", "", "ENb", ""]
    assert not stopped


def test_what_was_held_back_comes_with_the_end() -> None:
    pieces, stopped = deltas("aEN", ["END"])
    assert (pieces[-1], stopped) == ("EN", False)


def test_a_stop_text_may_begin_within_itself() -> None:
    pieces, stopped = deltas("aababc", ["ababc"])
    assert ("".join(pieces), stopped) == ("a", True)


def test_a_stop_text_of_several_bytes_is_found() -> None:
    pieces, stopped = deltas("weiß👋nicht", ["👋"])
    assert ("".join(pieces), stopped) == ("weiß", True)


def test_nothing_comes_after_a_stop_text() -> None:
    stream = TextStream(decode, ["b"])
    for token in encode("ab"):
        stream.push(token)
    assert stream.stopped
    assert stream.flush() == ""


@given(st.text(alphabet="ab1", max_size=30), st.lists(st.text(alphabet="ab1", min_size=1, max_size=4), max_size=3))
def test_whatever_the_stop_texts_the_answer_is_the_text_before_the_first(text: str, stop: list[str]) -> None:
    pieces, stopped = deltas(text, stop)
    first = min((index for each in stop if (index := text.find(each)) >= 0), default=None)
    assert stopped == (first is not None)
    shown = "".join(pieces)
    # A longer stop text may begin earlier but be complete later than a shorter one: what ends first ends the answer.
    assert text.startswith(shown)
    assert not any(each in shown for each in stop)
    assert first is None or len(shown) >= first


def sentence_pieces() -> Tokenizer:
    """Words that bring the space before them along, which is left out where a text begins, as Llama 2 has it."""
    words = {"\u2581once": 0, "\u2581upon": 1, "\u2581a": 2, "time": 3, "\u2581time": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="\u2581a"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def test_what_continues_a_text_keeps_the_space_that_begins_it() -> None:
    tokenizer = sentence_pieces()
    assert tokenizer.decode([1, 2, 4]) == "upon a time"
    for before, shown in (((), "upon a time"), ((0,), " upon a time")):
        stream = TextStream(tokenizer.decode, before=before)
        assert "".join([*map(stream.push, (1, 2, 4)), stream.flush()]) == shown


def test_what_stands_before_plays_no_part_in_stop_texts() -> None:
    stream = TextStream(sentence_pieces().decode, ["ce upon", " a"], before=(0,))
    assert [stream.push(token) for token in (1, 2)] == [" upon", ""]
    assert stream.stopped


def test_random_bytes_lose_nothing_but_the_broken_end() -> None:
    source = random.Random(7)
    for _ in range(50):
        ids = [source.randrange(3, TOKENIZER.get_vocab_size()) for _ in range(40)]
        stream = TextStream(decode)
        text = "".join([*(stream.push(token) for token in ids), stream.flush()])
        assert text == decode(ids).rstrip("\N{REPLACEMENT CHARACTER}")
