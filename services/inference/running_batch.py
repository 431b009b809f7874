"""The rows that one base model writes at the same time; used by the transformers engine."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
import torch

from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest, Written
from services.inference.logprobs import judged
from services.inference.network import Network, Piece
from services.inference.prefix_store import PrefixStore
from services.inference.reading import PIECE, Reading
from services.inference.row_cache import RowCache
from services.inference.sampling import Sampler

log = structlog.get_logger()

Outcomes = dict[int, Written | ServiceError]

T = TypeVar("T")

_ERRORS = (RuntimeError, ValueError, IndexError)
_ALONE = 3 * PIECE
"""Tokens of prompts in a step while nobody writes: about half a second."""


class _Row:
    """A request under way; `last` is the token that was written last, `reading` is there until the prompt has been read."""

    def __init__(self, ticket: int, request: GenerationRequest) -> None:
        self.ticket = ticket
        self.request = request
        self.last = -1
        self.reading: Reading | None = None
        self._sampler = Sampler(request.sampling, request.prompt, request.guide)

    def choose(self, logits: torch.Tensor) -> Written:
        """The next token; raises ValueError when the numbers are not finite. `logits` has the shape [vocabulary]."""
        # The least and the largest of numbers among which one is none, are none.
        if not all(math.isfinite(end) for end in torch.stack(logits.aminmax()).tolist()):
            raise ValueError("the model's numbers are not finite")
        self.last = self._sampler.choose(logits)
        prompt = tuple(self.reading.judged) if self.reading else ()
        if self.request.logprobs is None:
            return Written(self.last, prompt=prompt)
        (token,) = judged([self.last], logits[None], self.request.logprobs)
        return Written(token.id, token.logprob, token.top, prompt)


class RunningBatch:
    """A network, its adapters, and the rows it works on. `threads` are those of the tensor library.

    `prefix_tokens` of prompts are remembered, see PrefixStore.
    """

    def __init__(self, network: Network, *, threads: int, prefix_tokens: int = 0) -> None:
        self.network = network
        self._threads = threads
        self._prefixes = PrefixStore(prefix_tokens)
        self._unread: list[_Row] = []
        # In the order of the cache's rows.
        self._rows: list[_Row] = []
        self._cache = RowCache()

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        """See Engine."""
        self._unread.append(_Row(ticket, request))

    def unload_adapter(self, name: str) -> None:
        """Frees an adapter; one that is not loaded is ignored."""
        self.network.adapters.unload(name)
        self._prefixes.forget(name)

    @torch.inference_mode()
    def leave(self, ticket: int) -> None:
        """See Engine."""
        self._unread = [row for row in self._unread if row.ticket != ticket]
        for index, row in enumerate(self._rows):
            if row.ticket == ticket:
                self._drop(index)
                return

    @torch.inference_mode()
    def step(self) -> Outcomes:
        """See Engine. Prompts are read in the order they came, a piece in a step; with the end comes the first token."""
        torch.set_num_threads(self._threads)
        outcomes = self._write()
        # Where nobody writes, nobody waits for the next token.
        left = PIECE if self._rows else _ALONE
        while self._unread and left > 0:
            pieces = self._next_pieces(left)
            left -= sum(len(piece.tokens) for _, piece in pieces)
            outcomes |= self._read(pieces)
        return outcomes

    def _next_pieces(self, left: int) -> list[tuple[_Row, Piece]]:
        """Of at most `left` tokens together, at least one."""
        chosen: list[tuple[_Row, Piece]] = []
        for row in self._unread[: self.network.prompts_at_once]:
            if left <= 0:
                break
            reading = row.reading or Reading(row.request, self._prefixes.find(row.request.adapter, self._reusable(row.request)))
            if any(self._should_wait(row, reading, other) for other, _ in chosen):
                break
            row.reading = reading
            chosen.append((row, reading.next_piece(min(left, PIECE))))
            left -= len(chosen[-1][1].tokens)
        return chosen

    def _should_wait(self, row: _Row, reading: Reading, other: _Row) -> bool:
        """Whether what the other reads now need not be read again by this one."""
        prompt, is_same = self._reusable(row.request), row.request.adapter == other.request.adapter
        return is_same and self._prefixes.would_help(prompt, reading.position, other.request.prompt)

    def _read(self, pieces: list[tuple[_Row, Piece]]) -> Outcomes:
        """Reads pieces of prompts; a row whose last one was among them joins the batch, and has its first token."""
        logits = self._together(len(pieces), lambda: self.network.read([piece for _, piece in pieces]))
        outcomes: Outcomes = {}
        for (row, piece), found in zip(pieces, logits, strict=True):
            outcome = _guarded(row, functools.partial(self._finish, row, piece, found))
            if outcome is not None:
                self._unread.remove(row)
                outcomes[row.ticket] = outcome
                row.reading = None
        return outcomes

    def _finish(self, row: _Row, piece: Piece, logits: torch.Tensor | None) -> Written | None:
        assert row.reading is not None, "a piece is of a prompt that is read"
        if logits is None:
            (logits,) = self.network.read([piece])
        row.reading.take(piece, logits)
        if not row.reading.is_done:
            return None
        token = row.choose(logits[-1])
        self._prefixes.keep(row.request.adapter, row.request.prompt, row.reading.cache)
        self._cache.join(row.reading.cache)
        self._rows.append(row)
        return token

    @staticmethod
    def _reusable(request: GenerationRequest) -> tuple[int, ...]:
        # What is judged has to be computed.
        return request.prompt if request.judged_from is None else request.prompt[: request.judged_from]

    def _write(self) -> Outcomes:
        """One token for every row that has been read."""
        if not self._rows:
            return {}
        logits = self._together(len(self._rows), lambda: self._forward(slice(0, len(self._rows))))
        outcomes = {
            row.ticket: _guarded(row, functools.partial(self._choose, index, logits[index]))
            for index, row in enumerate(self._rows)
        }
        self._cache.advance()
        for row in [row for row in self._rows if isinstance(outcomes[row.ticket], ServiceError)]:
            self._drop(self._rows.index(row))
        return outcomes

    def _choose(self, index: int, logits: torch.Tensor | None) -> Written:
        return self._rows[index].choose(self._forward(slice(index, index + 1))[0] if logits is None else logits)

    def _together(self, rows: int, work: Callable[[], Iterable[torch.Tensor]]) -> list[torch.Tensor | None]:
        """What `work` gives for each row. What fails together is repeated row by row (None), so that only those at fault fail."""
        if rows == 1:
            return [None]
        try:
            return list(work())
        except _ERRORS as error:
            log.warning("batch.failed", rows=rows, error=str(error))
            return [None] * rows

    def _forward(self, rows: slice) -> torch.Tensor:
        """Logits of the next token, shape [rows, vocabulary]."""
        chosen = self._rows[rows]
        return self.network.write([row.last for row in chosen], [row.request.adapter for row in chosen], self._cache, rows)

    def _drop(self, index: int) -> None:
        self._cache.leave(index)
        self._rows[index] = self._rows[-1]
        del self._rows[-1]


def _guarded(row: _Row, work: Callable[[], T]) -> T | ServiceError:
    try:
        return work()
    except _ERRORS as error:
        log.exception("generation.failed", base=row.request.base, adapter=row.request.adapter)
        return ServiceError("GENERATION_FAILED", f"the model failed: {error}")
