"""Reads a regular expression into a tree; the part of the usual syntax that a finite automaton can match, and nothing else.

Alternatives `a|b`, groups `( )` and `(?: )`, repetitions `* + ? {m} {m,} {m,n}`, `.`, sets `[a-z]` and `[^a-z]`, the classes
`\\d \\w \\s` (of ASCII) and their opposites, `^` and `$` for the ends of the line, `\\` before punctuation, `(?i)` in front for
any case.
"""

import dataclasses
import string

MAX_LENGTH = 200
_MAX_REPETITION = 100
_LAST = 0x10FFFF

Range = tuple[int, int]
"""First and last code point."""


class PatternError(ValueError):
    """What is wrong, and where, from 1."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at character {position}")


@dataclasses.dataclass(frozen=True, slots=True)
class Characters:
    """One character out of these."""

    ranges: tuple[Range, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Edge:
    """The beginning or the end of the line."""

    is_end: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple["Node", ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    options: tuple["Node", ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Repetition:
    """So often; `most` None = any number."""

    part: "Node"
    least: int
    most: int | None


Node = Characters | Edge | Sequence | Choice | Repetition

_DIGITS, _SPACE = ((48, 57),), ((9, 13), (32, 32))
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r"}


def parse(text: str) -> Node:
    """The tree; raises PatternError."""
    if len(text) > MAX_LENGTH:
        raise PatternError(f"has {len(text)} characters; at most {MAX_LENGTH} are permitted, it is too long", MAX_LENGTH + 1)
    any_case = text.startswith("(?i)")
    parser = _Parser(text, 4 if any_case else 0, any_case)
    node = parser.choice()
    if not parser.at_end():
        raise parser.error("there is a ) without (")
    return node


def complement(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Every other character."""
    found, begin = [], 0
    for first, last in sorted(ranges):
        if first > begin:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*found, (begin, _LAST)) if begin <= _LAST else tuple(found)


class _Parser:
    def __init__(self, text: str, position: int, any_case: bool) -> None:
        self._text = text
        self._position = position
        self._any_case = any_case

    def at_end(self) -> bool:
        return self._position >= len(self._text)

    def error(self, message: str) -> PatternError:
        return PatternError(message, min(self._position, len(self._text)) + 1)

    def choice(self) -> Node:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts = []
        while not self.at_end() and self._peek() not in "|)":
            parts.append(self._repeated())
        return Sequence(tuple(parts))

    def _repeated(self) -> Node:
        node = self._single()
        while not self.at_end() and self._peek() in "*+?{":
            least, most = self._bounds()
            node = Repetition(node, least, most)
            self._take("?")  # whether it is greedy changes nothing about whether there is a match
        return node

    def _bounds(self) -> tuple[int, int | None]:
        sign = self._next()
        if sign != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        least = self._number()
        most: int | None = least
        if self._take(","):
            most = None if self._peek() == "}" else self._number()
        if not self._take("}"):
            raise self.error("a repetition is not closed; write \\{ for the character")
        if most is not None and most < least:
            raise self.error(f"{{{least},{most}}} is the wrong way round")
        return least, most

    def _number(self) -> int:
        digits = ""
        while not self.at_end() and self._peek() in string.digits:
            digits += self._next()
        if not digits or int(digits) > _MAX_REPETITION:
            raise self.error(f"a repetition needs a number of at most {_MAX_REPETITION}; write \\{{ for the character")
        return int(digits)

    def _single(self) -> Node:
        sign = self._next()
        if sign == "(":
            return self._group()
        if sign in "^$":
            return Edge(sign == "$")
        if sign == ".":
            return Characters(((0, _LAST),))
        if sign == "[":
            return Characters(self._set())
        if sign == "\\":
            return Characters(self._escaped())
        if sign in "*+?{":
            self._position -= 1
            raise self.error(f"there is nothing before {sign} to repeat")
        return Characters(self._letter(sign))

    def _group(self) -> Node:
        if self._take("?") and not self._take(":"):
            raise self.error("of the groups with ? only (?: ) is known, and (?i) in front")
        node = self.choice()
        if not self._take(")"):
            raise self.error("a ( is not closed")
        return node

    def _set(self) -> tuple[Range, ...]:
        is_negated, found = self._take("^"), list[Range]()
        while not found or self._peek() != "]":
            found += self._set_entry()
        self._next()
        return complement(tuple(found)) if is_negated else tuple(found)

    def _set_entry(self) -> tuple[Range, ...]:
        sign = self._next()
        entry = self._escaped() if sign == "\\" else self._letter(sign)
        if self._text[self._position : self._position + 1] != "-" or self._text[self._position + 1 : self._position + 2] == "]":
            return entry
        self._next()
        last = self._next()
        last = self._next() if last == "\\" else last
        if ord(last) < entry[0][0] or len(entry) > 2:
            raise self.error("a range in a set is the wrong way round")
        first = ord(sign) if sign != "\\" else entry[0][0]
        return self._cased(first, ord(last))

    def _escaped(self) -> tuple[Range, ...]:
        sign = self._next()
        if sign.lower() in _CLASSES:
            ranges = _CLASSES[sign.lower()]
            return complement(ranges) if sign.isupper() else ranges
        if sign in _CONTROLS:
            return self._letter(_CONTROLS[sign])
        if sign.isalnum():
            raise self.error(f"\\{sign} is not known; \\d \\w \\s \\t and \\ before punctuation are")
        return self._letter(sign)

    def _letter(self, sign: str) -> tuple[Range, ...]:
        return self._cased(ord(sign), ord(sign))

    def _cased(self, first: int, last: int) -> tuple[Range, ...]:
        if not self._any_case:
            return ((first, last),)
        found = [(first, last)]
        for begin, end, shift in ((65, 90, 32), (97, 122, -32)):
            low, high = max(first, begin), min(last, end)
            if low <= high:
                found.append((low + shift, high + shift))
        return tuple(found)

    def _peek(self) -> str:
        if self.at_end():
            raise self.error("it ends in the middle")
        return self._text[self._position]

    def _next(self) -> str:
        sign = self._peek()
        self._position += 1
        return sign

    def _take(self, sign: str) -> bool:
        is_there = self._text.startswith(sign, self._position)
        self._position += is_there
        return is_there
