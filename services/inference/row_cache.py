"""Keys and values of a batch whose rows come and go; used by the running batch.

The newest token of every row stands in the same column, so a step writes one column and copies nothing; shorter rows are padded
on the left, and the mask keeps them from looking there. A row that comes or goes copies that one row.
"""

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

# Columns to spare when the buffers are made anew, at least.
_SPARE_COLUMNS = 64


class _Window:
    """Which part of the buffers is in use; one for all layers. A step computes `rows` over the columns from `start` to `end`."""

    def __init__(self) -> None:
        self.rows = slice(0, 0)
        self.start = 0
        self.end = 0


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's buffers for keys and values, shape [rows, heads, columns, width] each; shaped after the first row."""

    def __init__(self, window: _Window, first: DynamicLayer) -> None:
        super().__init__()
        self._window = window
        self._buffers = [_states(first, index)[:0, :, :0] for index in (0, 1)]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Writes the next column and gives all columns with it; it counts only once the window has moved on."""
        rows, start, end = self._window.rows, self._window.start, self._window.end
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[rows, :, end : end + 1] = states
        keys, values = (buffer[rows, :, start : end + 1] for buffer in self._buffers)
        return keys, values

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self._window.end - self._window.start

    def resize(self, rows: int, columns: int, end: int) -> None:
        """Moves the content to new buffers, where its last column is the one before `end`."""
        used = slice(self._window.start, self._window.end)
        for index, old in enumerate(self._buffers):
            new, first = old.new_empty((rows, old.shape[1], columns, old.shape[3])), end - (used.stop - used.start)
            # A longer row lets all be read from further left; what is further right or below is written before it is read.
            new[: old.shape[0], :, :first] = 0
            new[: old.shape[0], :, first:end] = old[:, :, used]
            self._buffers[index] = new

    def put(self, row: int, source: DynamicLayer) -> None:
        """A row's whole content, right-aligned."""
        end = self._window.end
        for index, buffer in enumerate(self._buffers):
            states = _states(source, index)
            first = end - states.shape[-2]
            # What stood there need not be finite, and 0 times that is not 0.
            buffer[row, :, :first] = 0
            buffer[row, :, first:end] = states[0]

    def move(self, source: int, target: int) -> None:
        """One row in the place of another."""
        for buffer in self._buffers:
            buffer[target, :, : self._window.end] = buffer[source, :, : self._window.end]


def _states(layer: DynamicLayer, index: int) -> torch.Tensor:
    states: torch.Tensor = (layer.keys, layer.values)[index]
    return states


class RowCache:
    """The cache of a batch. Rows are numbered from 0; the number of one that leaves goes to the last one."""

    def __init__(self) -> None:
        self._window = _Window()
        self._layers: list[_Layer] = []
        self._lengths: list[int] = []
        # Rows and columns of the buffers.
        self._room = (0, 0)

    def __len__(self) -> int:
        return len(self._lengths)

    def join(self, prompt: DynamicCache) -> None:
        """Adds a row behind the last one; `prompt` is the cache of a batch of one."""
        length = prompt.get_seq_length()
        if not self._layers:
            self._layers = [_Layer(self._window, layer) for layer in prompt.layers]
        self._make_room(len(self) + 1, length)
        for layer, source in zip(self._layers, prompt.layers, strict=True):
            layer.put(len(self), source)
        self._lengths.append(length)
        self._settle()

    def leave(self, row: int) -> None:
        """Takes a row out."""
        last = len(self) - 1
        if row != last:
            for layer in self._layers:
                layer.move(last, row)
            self._lengths[row] = self._lengths[last]
        del self._lengths[last]
        self._settle()

    def next_column(self, rows: slice) -> tuple[Cache, torch.Tensor, torch.Tensor | None]:
        """What a step over these rows needs: cache, positions [rows, 1], and mask [rows, columns], None = no padding.

        The step counts only with `advance`; until then it can be repeated, for other rows, too.
        """
        self._make_room(len(self), 0)
        self._window.rows = rows
        lengths = torch.tensor(self._lengths[rows])[:, None]
        width = self._window.end - self._window.start + 1
        mask = torch.arange(width) >= width - 1 - lengths
        return Cache(layers=list(self._layers)), lengths, None if bool(mask.all()) else mask.long()

    def advance(self) -> None:
        """Every row has one token more."""
        self._lengths = [length + 1 for length in self._lengths]
        self._window.end += 1
        self._settle()

    def _settle(self) -> None:
        if not self._lengths:
            self._window, self._layers, self._room = _Window(), [], (0, 0)
        self._window.start = self._window.end - max(self._lengths, default=0)

    def _make_room(self, rows: int, length: int) -> None:
        """Room for so many rows, for a row of so many columns, and for one column more."""
        if rows <= self._room[0] and length <= self._window.end < self._room[1]:
            return
        width = self._window.end - self._window.start
        end = max(width, length)
        self._room = (max(self._room[0], 1 << (rows - 1).bit_length()), end + max(_SPARE_COLUMNS, end // 4))
        for layer in self._layers:
            layer.resize(*self._room, end)
        self._window.start, self._window.end = end - width, end
