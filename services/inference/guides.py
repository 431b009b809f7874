"""What an answer has to look like, as a guide that says token by token what may follow; used by the answer flow.

llguidance does the work: it turns schemas, regular expressions and grammars into parsers over the bytes of a vocabulary.
"""

import dataclasses
import enum
import functools
import json
from pathlib import Path

import structlog
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from tokenizers import Tokenizer

from services.common.errors import InvalidArgument, Violation

log = structlog.get_logger()

# A schema or expression comes from whoever asks. With the library's own limits `(a{1000}){1000}` holds everybody up for seconds,
# with these for two tenths of one.
_LIMITS = LLParserLimits(max_grammar_size=100_000, initial_lexer_fuel=100_000, max_lexer_states=50_000, verbose_errors=False)

WHITE_SPACE = r"[ \n\t]{0,16}"
"""JSON permits white space without end, and a small model that has nothing to say writes it until its tokens are used up."""


class Language(enum.Enum):
    """How a constraint is written down."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


@dataclasses.dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer has to look like; `field` is where the caller has said so."""

    language: Language
    text: str
    field: str


class Vocabulary:
    """The tokens of a model as bytes, and guides over them; read when it is first needed."""

    def __init__(self, directory: Path, *, size: int, ends: frozenset[int]) -> None:
        """Of a Hugging Face model directory whose tokenizer the renderer has read; `ends` are the tokens that end an answer."""
        self._directory = directory
        self._size = size
        self._ends = ends

    @functools.cached_property
    def _own(self) -> Tokenizer:
        own = Tokenizer.from_file(str(self._directory / "tokenizer.json"))
        own.no_padding()
        own.no_truncation()
        return own

    @functools.cached_property
    def _tokenizer(self) -> LLTokenizer | None:
        """None = which bytes its tokens write cannot be told from the file."""
        count = max(self._size, self._own.get_vocab_size())
        try:
            return LLTokenizer(self._own.to_str(), n_vocab=count, eos_token=sorted(self._ends))
        except ValueError as error:
            log.warning("vocabulary.without_bytes", directory=self._directory.name, detail=str(error)[:200])
            return None

    def bytes_of(self, token: int) -> bytes:
        """What a token writes; of a special token, and where it cannot be told, its name."""
        if self._tokenizer is None:
            return (self._own.id_to_token(token) or "").encode()
        return self._tokenizer.decode_bytes([token])

    def literal(self, text: str) -> str:
        """A text as a terminal of a Lark grammar: the special token of this name if there is one, else its letters."""
        if self._tokenizer is None:
            return json.dumps(text)
        ids = self._tokenizer.tokenize_str(text, parse_special=True)
        is_special = len(ids) == 1 and self._tokenizer.is_special_token(ids[0])
        return text if is_special else json.dumps(text)

    def guide(self, constraint: Constraint) -> "TokenGuide":
        """A guide for one answer; raises InvalidArgument with the constraint's field when it cannot be enforced."""
        if self._tokenizer is None:
            raise _refused(constraint, "which bytes this model's tokens write cannot be told from its tokenizer.json")
        matcher = LLMatcher(self._tokenizer, _grammar(constraint), limits=_LIMITS)
        if matcher.is_error():
            raise _refused(constraint, matcher.get_error())
        return TokenGuide(matcher)


class TokenGuide:
    """See Guide."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self) -> bytes:
        """See Guide."""
        mask = self._matcher.compute_bitmask()
        self._check()
        return mask

    def take(self, token: int) -> None:
        """See Guide."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ValueError(f"the constraint takes too much work: {_short(self._matcher.get_error())}")


def _grammar(constraint: Constraint) -> str:
    try:
        match constraint.language:
            case Language.JSON_SCHEMA:
                return LLMatcher.grammar_from_json_schema(constraint.text, defaults={"whitespace_pattern": WHITE_SPACE})
            case Language.REGEX:
                return LLMatcher.grammar_from_regex(constraint.text)
            case Language.LARK:
                return LLMatcher.grammar_from_lark(constraint.text)
    except ValueError as error:
        raise _refused(constraint, str(error)) from error


def _refused(constraint: Constraint, error: str) -> InvalidArgument:
    return InvalidArgument(Violation(constraint.field, f"cannot be enforced: {_short(error)}"))


def _short(text: str) -> str:
    """What matters of a message: a parser of expressions draws the place first and says at the end what is wrong there."""
    lines = [line.strip() for line in text.strip().splitlines()]
    said = next((line for line in lines if line.startswith("error:")), lines[0] if lines else "no reason is known")
    return said.removeprefix("error:").strip()[:300]
