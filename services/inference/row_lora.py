"""LoRA for batches whose rows have different adapters; used by the adapters of a model.

The adapters in a batch are stacked to one, of the sum of their ranks, and each row gets its own ranks alone: that costs two
matrix products a layer however many adapters there are, and no row is copied anywhere.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear, LoraLayer

# So many adapters stay stacked, though they are not in use, so that a new request seldom has a stack made anew.
_STACKED_AT_MOST = 8


class _Stack(NamedTuple):
    """A and B of several adapters: [ranks, inputs], and [ranks, outputs] with their scaling; `owner` is each rank's adapter."""

    a: torch.Tensor
    b: torch.Tensor
    owner: torch.Tensor


class RowLora:
    """Which row of the next calls goes through which adapter. Adapters are named by peft's keys."""

    def __init__(self) -> None:
        self._names: tuple[str | None, ...] = ()
        self._stacked: tuple[str, ...] = ()
        self._stacks: dict[Any, _Stack | None] = {}
        self._is_own = torch.empty(0)

    def install(self, model: Any) -> None:
        """Lets every layer that peft has put into the model follow the routes. To be repeated after whatever peft changes."""
        self._stacked, self._stacks = (), {}
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                layer.forward = functools.partial(self._forward, layer)

    def route(self, names: Sequence[str | None]) -> None:
        """The adapter of each row of the next calls; None = the base model alone."""
        self._names = tuple(names)
        wanted = {name for name in names if name is not None}
        if not wanted <= set(self._stacked):
            more = wanted.union(self._stacked)
            self._stacked, self._stacks = tuple(sorted(more if len(more) <= _STACKED_AT_MOST else wanted)), {}
        self._is_own = torch.tensor([[name == own for own in self._stacked] for name in names])

    def _forward(self, layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result: torch.Tensor = layer.base_layer(x, *args, **kwargs)
        used = set(self._names) - {None}
        if not used:
            return result
        if type(layer) is Linear and (stack := self._stack(layer)):
            # Hu et al. 2021, eq. 3: W x + scaling * B A x.
            hidden = torch.nn.functional.linear(x, stack.a)
            if len(self._stacked) > 1 or None in self._names:
                strange = ~self._is_own[:, stack.owner].view(len(x), *(1,) * (x.dim() - 2), -1)
                hidden = hidden.masked_fill(strange, 0)
            result.view(-1, result.shape[-1]).addmm_(hidden.view(-1, hidden.shape[-1]), stack.b)
        for name in used:
            if not _is_stackable(layer, name):
                self._apply_alone(layer, name, result, x, *args, **kwargs)
        return result

    def _stack(self, layer: Any) -> _Stack | None:
        if layer not in self._stacks:
            own = [(index, name) for index, name in enumerate(self._stacked) if _is_stackable(layer, name)]
            self._stacks[layer] = _stacked(layer, own) if own else None
        return self._stacks[layer]

    def _apply_alone(
        self, layer: Any, name: str | None, result: torch.Tensor, x: torch.Tensor, *args: Any, **kwargs: Any
    ) -> None:
        """What is not plain W x + B A x (DoRA, an embedding) is left to peft, for the rows that have it."""
        if name in layer.lora_A or name in layer.lora_embedding_A:
            layer._active_adapter = [name]
            rows = torch.tensor([row for row, own in enumerate(self._names) if own == name])
            result[rows] = type(layer).forward(layer, x[rows], *args, **kwargs)


def _is_stackable(layer: Any, name: str | None) -> bool:
    return type(layer) is Linear and name in layer.lora_A and not layer.use_dora.get(name)


def _stacked(layer: Any, own: Sequence[tuple[int, str]]) -> _Stack:
    a = [layer.lora_A[name].weight for _, name in own]
    b = [layer.lora_B[name].weight.T * layer.scaling[name] for _, name in own]
    owner = [index for (index, name), weight in zip(own, a, strict=True) for _ in range(len(weight))]
    return _Stack(torch.cat(a), torch.cat(b), torch.tensor(owner))
