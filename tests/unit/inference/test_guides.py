"""Constraints as guides over a vocabulary."""

import json
from pathlib import Path

import pytest
from tiny_model import END, tiny_tokenizer
from tokenizers import Tokenizer, models

from services.common.errors import InvalidArgument
from services.inference.guides import Constraint, Language, TokenGuide, Vocabulary

TOKENIZER = tiny_tokenizer()
SIZE = TOKENIZER.get_vocab_size()
END_ID = TOKENIZER.token_to_id(END)


@pytest.fixture(scope="module")
def vocabulary(model_directory: Path) -> Vocabulary:
    return Vocabulary(model_directory, size=SIZE, ends=frozenset([END_ID]))


def allowed(guide: TokenGuide) -> set[int]:
    bits = guide.allowed()
    return {token for token in range(SIZE) if bits[token >> 3] >> (token & 7) & 1}


def fits(vocabulary: Vocabulary, constraint: Constraint, text: str) -> bool:
    """Whether the text can be written token by token, and may end then."""
    guide = vocabulary.guide(constraint)
    for token in TOKENIZER.encode(text, add_special_tokens=False).ids:
        if token not in allowed(guide):
            return False
        guide.take(token)
    return END_ID in allowed(guide)


def test_a_token_is_known_by_its_bytes_be_it_half_a_character(vocabulary: Vocabulary) -> None:
    ids = TOKENIZER.encode("thé the", add_special_tokens=False).ids
    assert [vocabulary.bytes_of(token) for token in ids] == [b"th", b"\xc3", b"\xa9", b" the"]
    assert vocabulary.bytes_of(END_ID) == END.encode()


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("yes|no", ["yes", "no"], ["", "ye", "yesno", "maybe"]),
        (r"\d{2,3}", ["12", "123"], ["1", "1234", "ab"]),
        ("é+", ["é", "éé"], ["e"]),
    ],
    ids=["words", "digits", "two bytes"],
)
def test_a_regular_expression_is_matched_from_end_to_end(
    vocabulary: Vocabulary, pattern: str, good: list[str], bad: list[str]
) -> None:
    constraint = Constraint(Language.REGEX, pattern, "response_format.regex")
    assert [fits(vocabulary, constraint, text) for text in good + bad] == [True] * len(good) + [False] * len(bad)


def test_a_schema_lets_through_what_fits_it_and_nothing_else(vocabulary: Vocabulary) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "count": {"type": "integer", "minimum": 3}},
        "required": ["kind", "count"],
        "additionalProperties": False,
    }
    constraint = Constraint(Language.JSON_SCHEMA, json.dumps(schema), "response_format.json_schema")
    assert fits(vocabulary, constraint, '{"kind": "a", "count": 12}')
    for text in ('{"kind": "c", "count": 12}', '{"kind": "a", "count": 2}', '{"kind": "a"}', '{"kind": "a", "count": 3, "x": 1}'):
        assert not fits(vocabulary, constraint, text)


def test_white_space_in_a_schema_ends(vocabulary: Vocabulary) -> None:
    """A model that has nothing to say would write it until its tokens are used up."""
    constraint = Constraint(Language.JSON_SCHEMA, '{"type": "array", "items": {"type": "integer"}}', "f")
    assert fits(vocabulary, constraint, "[" + " " * 16 + "1,\n\t2 ]")
    assert not fits(vocabulary, constraint, "[" + " " * 17 + "1]")


def test_a_whole_answer_may_only_end(vocabulary: Vocabulary) -> None:
    guide = vocabulary.guide(Constraint(Language.REGEX, "a", "f"))
    guide.take(TOKENIZER.token_to_id("a"))
    assert allowed(guide) == {END_ID}


@pytest.mark.parametrize(
    ("language", "text", "says"),
    [
        (Language.REGEX, "(a", "unclosed group"),
        (Language.REGEX, "(?=a)b", "look-around"),
        (Language.JSON_SCHEMA, "[1]", "object"),
        (Language.JSON_SCHEMA, '{"type": "object"', "column"),
        (Language.JSON_SCHEMA, '{"type": "shape"}', "shape"),
        (Language.JSON_SCHEMA, '{"type": "object", "unevaluatedProperties": false}', "unevaluatedProperties"),
        (Language.JSON_SCHEMA, '{"$ref": "http://127.0.0.1:1/x"}', "retriev"),
    ],
    ids=["open group", "look-around", "list", "no json", "unknown type", "unknown keyword", "reference elsewhere"],
)
def test_what_cannot_be_enforced_is_refused_by_its_field(
    vocabulary: Vocabulary, language: Language, text: str, says: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        vocabulary.guide(Constraint(language, text, "response_format.here"))
    (violation,) = refused.value.violations
    assert violation.field == "response_format.here"
    assert says in violation.description


def test_a_token_that_is_not_allowed_loses_the_guide(vocabulary: Vocabulary) -> None:
    guide = vocabulary.guide(Constraint(Language.REGEX, "a", "f"))
    with pytest.raises(ValueError, match="constraint"):
        guide.take(TOKENIZER.token_to_id("b"))
    with pytest.raises(ValueError, match="constraint"):
        guide.allowed()


def test_a_special_token_is_written_by_name_and_words_by_letters(vocabulary: Vocabulary) -> None:
    assert vocabulary.literal(END) == END
    assert vocabulary.literal("<tool_call>") == '"<tool_call>"'


@pytest.fixture
def without_bytes(tmp_path: Path) -> Vocabulary:
    """Of a tokenizer that does not say which bytes its tokens write."""
    Tokenizer(models.WordLevel({"</s>": 0, "\u2581yes": 1}, unk_token="</s>")).save(str(tmp_path / "tokenizer.json"))
    return Vocabulary(tmp_path, size=4, ends=frozenset({0}))


def test_tokens_of_a_tokenizer_that_does_not_tell_their_bytes_have_their_names(without_bytes: Vocabulary) -> None:
    assert [without_bytes.bytes_of(token).decode() for token in (0, 1, 3)] == ["</s>", "\u2581yes", ""]


@pytest.mark.parametrize("language", Language)
def test_a_constraint_on_such_tokens_is_refused_by_its_field(without_bytes: Vocabulary, language: Language) -> None:
    assert without_bytes.literal("<tool_call>") == '"<tool_call>"'
    with pytest.raises(InvalidArgument, match="which bytes") as refused:
        without_bytes.guide(Constraint(language, "yes", "response_format.here"))
    assert [violation.field for violation in refused.value.violations] == ["response_format.here"]
