"""The rows that one base model writes at the same time; used by the transformers engine."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
import torch

from services.common.errors import ServiceError
from services.inference.adapters import Adapters
from services.inference.engine import GenerationRequest, Written
from services.inference.logprobs import judged
from services.inference.prefix_store import PrefixStore
from services.inference.reading import PIECE, Reading
from services.inference.row_cache import RowCache
from services.inference.sampling import Sampler

log = structlog.get_logger()

Outcomes = dict[int, Written | ServiceError]

T = TypeVar("T")


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
    """A model, its adapters, and the rows it works on. `threads` are those of the tensor library.

    `prefix_tokens` of prompts are remembered, see PrefixStore.
    """

    def __init__(self, model: Any, *, threads: int, prefix_tokens: int = 0) -> None:
        self.adapters = Adapters(model)
        self._model = model
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
        self.adapters.unload(name)
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
        """See Engine. Prompts are read in the order they came, about a piece in a step; with the end comes the first token."""
        torch.set_num_threads(self._threads)
        outcomes = self._write()
        left = PIECE
        while self._unread and left > 0:
            row = self._unread[0]
            before = row.reading.position if row.reading else 0
            outcome = _guarded(row, functools.partial(self._read, row))
            if outcome is not None:
                self._unread.remove(row)
                outcomes[row.ticket] = outcome
            left -= row.reading.position - before if row.reading else 0
            row.reading = row.reading if outcome is None else None
        return outcomes

    def _read(self, row: _Row) -> Written | None:
        """Reads a piece of a prompt, alone; with the last one the row joins the batch, and its first token is returned."""
        request = row.request
        if row.reading is None:
            row.reading = Reading(request, self._prefixes.find(request.adapter, self._reusable(request)))
        self.adapters.route([request.adapter])
        logits = row.reading.read_piece(self._model)
        if not row.reading.is_done:
            return None
        token = row.choose(logits)
        self._prefixes.keep(request.adapter, request.prompt, row.reading.cache)
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
        try:
            logits: list[torch.Tensor | None] = list(self._forward(slice(0, len(self._rows))))
        except (RuntimeError, ValueError, IndexError) as error:
            log.warning("batch.failed", rows=len(self._rows), error=str(error))
            logits = [None] * len(self._rows)
        # A batch that failed is repeated row by row, so that only the rows at fault fail.
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

    def _forward(self, rows: slice) -> torch.Tensor:
        """Logits of the next token, shape [rows, vocabulary]."""
        chosen = self._rows[rows]
        self.adapters.route([row.request.adapter for row in chosen])
        cache, positions, mask = self._cache.next_column(rows)
        ids = torch.tensor([[row.last] for row in chosen])
        output = self._model(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _drop(self, index: int) -> None:
        self._cache.leave(index)
        self._rows[index] = self._rows[-1]
        del self._rows[-1]


def _guarded(row: _Row, work: Callable[[], T]) -> T | ServiceError:
    try:
        return work()
    except (RuntimeError, ValueError, IndexError) as error:
        log.exception("generation.failed", base=row.request.base, adapter=row.request.adapter)
        return ServiceError("GENERATION_FAILED", f"the model failed: {error}")
