"""How much of a text another one has: BLEU, GLEU, ROUGE, F1 and character similarity, each 0 to 1.

Two empty texts are equal (1); an empty text and one with words have nothing in common (0).
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial

from services.common.grading.words import words

_LONGEST_GRAM = 4


def f1(answer: str, reference: str) -> float:
    """F1 of the words in common, each as often as in both (Rajpurkar et al. 2016, without their list of English articles)."""
    return _f1(_grams(words(answer), 1), _grams(words(reference), 1))


def rouge_n(answer: str, reference: str, n: int) -> float:
    """F1 of the runs of `n` words in common (Lin 2004); of shorter texts, of runs as long as the shorter one."""
    ours, theirs = words(answer), words(reference)
    n = max(1, min(n, len(ours), len(theirs)))
    return _f1(_grams(ours, n), _grams(theirs, n))


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004, beta = 1)."""
    ours, theirs = words(answer), words(reference)
    return _harmonic(common_subsequence(ours, theirs), len(ours), len(theirs))


def fuzzy_match(answer: str, reference: str) -> float:
    """1 - (characters inserted or deleted) / (characters of both): the normalised indel similarity."""
    return _harmonic(common_subsequence(answer, reference), len(answer), len(reference))


def bleu(answer: str, reference: str) -> float:
    """Sentence BLEU up to 4-grams (Papineni et al. 2002): precisions of 2- to 4-grams with 1 added above and below (Lin and Och
    2004), times the brevity penalty."""
    ours, theirs = words(answer), words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    logs = 0.0
    for n in range(1, _LONGEST_GRAM + 1):
        found, total = _matches(ours, theirs, n), max(0, len(ours) - n + 1)
        if n == 1 and found == 0:
            return 0.0
        logs += math.log(found / total if n == 1 else (found + 1) / (total + 1))
    brevity = min(0.0, 1 - len(theirs) / len(ours))
    return math.exp(logs / _LONGEST_GRAM + brevity)


def gleu(answer: str, reference: str) -> float:
    """The smaller of precision and recall of all 1- to 4-grams together (Wu et al. 2016)."""
    ours, theirs = words(answer), words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    sizes = range(1, _LONGEST_GRAM + 1)
    most = max(sum(max(0, len(side) - n + 1) for n in sizes) for side in (ours, theirs))
    return sum(_matches(ours, theirs, n) for n in sizes) / most


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "FUZZY_MATCH": fuzzy_match,
    "BLEU": bleu,
    "GLEU": gleu,
    "F1": f1,
    "ROUGE_L": rouge_l,
    **{f"ROUGE_{n}": partial(rouge_n, n=n) for n in range(1, 6)},
}
"""By the names of TextSimilarity.Metric that can be measured."""


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, with the rows of the table as bits of a number (Hyyrö 2004)."""
    places: dict[Hashable, int] = {}
    for place, item in enumerate(first):
        places[item] = places.get(item, 0) | (1 << place)
    everything = (1 << len(first)) - 1
    row = everything
    for item in second:
        matches = row & places.get(item, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(first) - row.bit_count()


def _grams(items: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(items[start : start + n]) for start in range(len(items) - n + 1))


def _matches(ours: Sequence[str], theirs: Sequence[str], n: int) -> int:
    return (_grams(ours, n) & _grams(theirs, n)).total()


def _f1(ours: Counter[tuple[str, ...]], theirs: Counter[tuple[str, ...]]) -> float:
    return _harmonic((ours & theirs).total(), ours.total(), theirs.total())


def _harmonic(common: int, ours: int, theirs: int) -> float:
    """The harmonic mean of common / ours and common / theirs."""
    return 2 * common / (ours + theirs) if ours + theirs else 1.0
