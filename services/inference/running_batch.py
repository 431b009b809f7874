"""The rows that one base model writes at the same time; used by the transformers engine."""

import functools
from collections.abc import Callable
from typing import Any

import structlog
import torch
from transformers import DynamicCache

from services.common.errors import ServiceError
from services.inference.adapters import Adapters
from services.inference.engine import GenerationRequest
from services.inference.row_cache import RowCache
from services.inference.sampling import Sampler

log = structlog.get_logger()

Outcomes = dict[int, int | ServiceError]


class _Row:
    """A request under way; `last` is the token that was written last."""

    def __init__(self, ticket: int, request: GenerationRequest) -> None:
        self.ticket = ticket
        self.request = request
        self.last = -1
        self._sampler = Sampler(request.sampling, request.prompt)

    def choose(self, logits: torch.Tensor) -> int:
        """The next token; raises ValueError when the numbers are not finite. `logits` has the shape [vocabulary]."""
        if not bool(torch.isfinite(logits).all()):
            raise ValueError("the model's numbers are not finite")
        self.last = self._sampler.choose(logits)
        return self.last


class RunningBatch:
    """A model, its adapters, and the rows it works on. `threads` are those of the tensor library."""

    def __init__(self, model: Any, *, threads: int) -> None:
        self.adapters = Adapters(model)
        self._model = model
        self._threads = threads
        self._unread: list[_Row] = []
        # In the order of the cache's rows.
        self._rows: list[_Row] = []
        self._cache = RowCache()

    def admit(self, ticket: int, request: GenerationRequest) -> None:
        """See Engine."""
        self._unread.append(_Row(ticket, request))

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
        """See Engine. Rows that are new get their prompt read and their first token."""
        outcomes = self._write()
        unread, self._unread = self._unread, []
        for row in unread:
            outcomes[row.ticket] = _guarded(row, functools.partial(self._read, row))
        return outcomes

    def _read(self, row: _Row) -> int:
        """Computes a prompt alone, and adds the row to the batch once its first token is known."""
        torch.set_num_threads(self._threads)
        self.adapters.route([row.request.adapter])
        cache = DynamicCache()
        # Only the last position is needed; over the whole prompt the output head would cost as much as the rest of the model.
        output = self._model(
            input_ids=torch.tensor([row.request.prompt]), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        token = row.choose(output.logits[0, -1])
        self._cache.join(cache)
        self._rows.append(row)
        return token

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

    def _choose(self, index: int, logits: torch.Tensor | None) -> int:
        return self._rows[index].choose(self._forward(slice(index, index + 1))[0] if logits is None else logits)

    def _forward(self, rows: slice) -> torch.Tensor:
        """Logits of the next token, shape [rows, vocabulary]."""
        chosen = self._rows[rows]
        # One token of one row is bound by memory: half the threads read as fast and wait less for each other.
        torch.set_num_threads(self._threads if len(chosen) > 1 else max(1, self._threads // 2))
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


def _guarded(row: _Row, work: Callable[[], int]) -> int | ServiceError:
    try:
        return work()
    except (RuntimeError, ValueError, IndexError) as error:
        log.exception("generation.failed", base=row.request.base, adapter=row.request.adapter)
        return ServiceError("GENERATION_FAILED", f"the model failed: {error}")
