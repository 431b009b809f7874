"""Regular expressions that match in a time proportional to the line, whatever they are; used to filter logs.

A pattern becomes a deterministic automaton before the first line is read (Thompson's construction, then that of the power set;
Aho, Sethi, Ullman: Compilers, chapter 3), so nothing is ever tried twice. What would need too large an automaton is refused.
"""

import bisect
from collections.abc import Iterable, Iterator

from services.task_manager.domain.pattern_syntax import Characters, Choice, Edge, Node, PatternError, Sequence, parse

_MAX_PARTS = 1000
_MAX_STATES = 300
_MAX_WORK = 300_000
_BEGIN, _END, _FIRST_CHARACTER = 0, 1, 2
_ACCEPTED = -1


class LinePattern:
    """`matches` tells whether the pattern is found anywhere in a line."""

    def __init__(self, text: str) -> None:
        """Raises PatternError for bad syntax and for a pattern that is too complex."""
        tree = parse(text)
        self._alphabet = _Alphabet(tree)
        self._table = _determined(_Parts(tree, self._alphabet), self._alphabet.size)

    def matches(self, line: str) -> bool:
        """Reads each character once at most."""
        state = self._step(0, _BEGIN)
        for character in line:
            if state == _ACCEPTED:
                return True
            state = self._table[state][self._alphabet.symbol(character)]
        return self._step(state, _END) == _ACCEPTED

    def _step(self, state: int, symbol: int) -> int:
        return state if state == _ACCEPTED else self._table[state][symbol]


class _Alphabet:
    """Characters that the pattern does not tell apart are one symbol; the ends of the line are symbols of their own."""

    def __init__(self, tree: Node) -> None:
        ranges = [one for node in _leaves(tree) for one in node.ranges]
        self._begins = sorted({0, *(first for first, _ in ranges), *(last + 1 for _, last in ranges)})
        self.size = _FIRST_CHARACTER + len(self._begins)
        self._known: dict[str, int] = {}

    def symbol(self, character: str) -> int:
        """Of one character."""
        found = self._known.get(character)
        if found is None:
            found = _FIRST_CHARACTER + bisect.bisect_right(self._begins, ord(character)) - 1
            if len(self._known) < _MAX_PARTS:
                self._known[character] = found
        return found

    def symbols(self, node: Characters | Edge) -> frozenset[int]:
        """Of a leaf of the pattern."""
        if isinstance(node, Edge):
            return frozenset({_END if node.is_end else _BEGIN})
        found: set[int] = set()
        for first, last in node.ranges:
            low, high = bisect.bisect_left(self._begins, first), bisect.bisect_right(self._begins, last)
            found.update(range(_FIRST_CHARACTER + low, _FIRST_CHARACTER + high))
        return frozenset(found)


class _Parts:
    """The nondeterministic automaton: moves over a symbol, and moves over nothing."""

    def __init__(self, tree: Node, alphabet: _Alphabet) -> None:
        self._alphabet = alphabet
        self.over: list[list[tuple[frozenset[int], int]]] = []
        self.free: list[list[int]] = []
        self.start = self._new()
        # A match may begin anywhere: whatever comes is passed over.
        self.over[self.start].append((frozenset(range(alphabet.size)), self.start))
        self.accept = self._add(tree, self.start)

    def _new(self) -> int:
        if len(self.over) >= _MAX_PARTS:
            raise PatternError("is too complex: fewer or smaller repetitions are needed", 1)
        self.over.append([])
        self.free.append([])
        return len(self.over) - 1

    def _add(self, node: Node, begin: int) -> int:
        """Where a match of the node that begins at `begin` ends."""
        if isinstance(node, Characters | Edge):
            end = self._new()
            self.over[begin].append((self._alphabet.symbols(node), end))
            return end
        if isinstance(node, Sequence):
            for part in node.parts:
                begin = self._add(part, begin)
            return begin
        if isinstance(node, Choice):
            return self._join([self._add(option, self._after(begin)) for option in node.options])
        for _ in range(node.least):
            begin = self._add(node.part, begin)
        return self._any_number(node.part, begin) if node.most is None else self._up_to(node.part, begin, node.most - node.least)

    def _any_number(self, part: Node, begin: int) -> int:
        loop = self._after(begin)
        self.free[self._add(part, loop)].append(loop)
        return self._after(loop)

    def _up_to(self, part: Node, begin: int, times: int) -> int:
        ends = [begin]
        for _ in range(times):
            ends.append(self._add(part, self._after(ends[-1])))
        return self._join(ends)

    def _after(self, begin: int) -> int:
        state = self._new()
        self.free[begin].append(state)
        return state

    def _join(self, ends: Iterable[int]) -> int:
        state = self._new()
        for end in ends:
            self.free[end].append(state)
        return state

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        """The states and all that are reached from them over nothing."""
        found, pending = set[int](), list(states)
        while pending:
            state = pending.pop()
            if state not in found:
                found.add(state)
                pending += self.free[state]
        return frozenset(found)


def _determined(parts: _Parts, symbols: int) -> list[list[int]]:
    """The next state by state and symbol; 0 is the first, and _ACCEPTED is left no more."""
    first, work = parts.closure([parts.start]), 0
    numbers, pending, table = {first: 0}, [first], list[list[int]]()
    if parts.accept in first:
        return [[_ACCEPTED] * symbols]
    while len(table) < len(pending):
        row = []
        for targets in _moves(parts, pending[len(table)], symbols):
            found = parts.closure(targets)
            work += len(found)
            if parts.accept in found:
                row.append(_ACCEPTED)
                continue
            if found not in numbers:
                if len(numbers) >= _MAX_STATES or work > _MAX_WORK:
                    raise PatternError("is too complex: fewer repetitions of what may match the same text are needed", 1)
                numbers[found] = len(numbers)
                pending.append(found)
            row.append(numbers[found])
        table.append(row)
    return table


def _moves(parts: _Parts, states: frozenset[int], symbols: int) -> Iterator[set[int]]:
    """Where each symbol leads to."""
    targets = [set[int]() for _ in range(symbols)]
    for state in states:
        for over, target in parts.over[state]:
            for symbol in over:
                targets[symbol].add(target)
    return iter(targets)


def _leaves(node: Node) -> Iterator[Characters]:
    if isinstance(node, Characters):
        yield node
    elif isinstance(node, Sequence | Choice):
        for part in node.parts if isinstance(node, Sequence) else node.options:
            yield from _leaves(part)
    elif not isinstance(node, Edge):
        yield from _leaves(node.part)
