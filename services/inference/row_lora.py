"""LoRA for batches whose rows have different adapters; used by the adapters of a model.

The adapters in a batch are stacked to one, of the sum of their ranks, and each row gets its own ranks alone: that costs two
matrix products a layer however many adapters there are, and no row is copied anywhere.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear, LoraLayer

from services.inference.plain_lora import Matrices

# So many adapters stay stacked, though they are not in use, so that a new request seldom has a stack made anew.
_STACKED_AT_MOST = 8


class _Part(NamedTuple):
    """B of several adapters of one module, [ranks, outputs] with their scaling, and where its ranks and outputs are."""

    b: torch.Tensor
    ranks: slice
    outputs: slice


class _Stack(NamedTuple):
    """A of several adapters of modules that read the same, [ranks, inputs]; `owner` is each rank's adapter."""

    a: torch.Tensor
    parts: tuple[_Part, ...]
    owner: tuple[int, ...]


class RowLora:
    """Which row of the next calls goes through which adapter: peft's, named by its keys, and those that are given here."""

    def __init__(self) -> None:
        self._plain: dict[str, Mapping[Any, Matrices]] = {}
        # Layers that peft has put one of its own around.
        self._wrapped: frozenset[Any] = frozenset()
        self._names: tuple[str | None, ...] = ()
        self._used: frozenset[str] = frozenset()
        self._stacked: tuple[str, ...] = ()
        self._stacks: dict[tuple[Any, ...], _Stack | None] = {}
        # Ranks that are not a row's own, by their owners.
        self._strange: dict[tuple[int, ...], torch.Tensor | None] = {}

    @property
    def is_used(self) -> bool:
        """Whether any row of the next calls has an adapter."""
        return bool(self._used)

    def install(self, model: Any) -> None:
        """Lets every layer that peft has put into the model follow the routes. To be repeated after whatever peft changes."""
        self._forget_stacks()
        layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
        for layer in layers:
            layer.forward = functools.partial(self._forward, layer)
        self._wrapped = frozenset(layer.base_layer for layer in layers)

    def follow(self, layers: Iterable[Any]) -> None:
        """Lets linear layers of a base model follow the routes, too, for what `put` brings. To be done once."""
        for layer in layers:
            layer.forward = functools.partial(self._base_forward, layer, layer.forward)

    def put(self, name: str, matrices: Mapping[Any, Matrices]) -> None:
        """An adapter that peft does not have, by the layers of the base model."""
        self._plain[name] = matrices
        self._forget_stacks()

    def take_out(self, name: str) -> bool:
        """Frees what `put` has brought; whether there was something."""
        self._forget_stacks()
        return self._plain.pop(name, None) is not None

    def route(self, names: Sequence[str | None]) -> None:
        """The adapter of each row of the next calls; None = the base model alone."""
        self._names, self._strange = tuple(names), {}
        self._used = frozenset(name for name in names if name is not None)
        if not self._used <= set(self._stacked):
            more = self._used.union(self._stacked)
            self._stacked, self._stacks = tuple(sorted(more if len(more) <= _STACKED_AT_MOST else self._used)), {}

    def apply_(self, result: torch.Tensor, x: torch.Tensor, modules: tuple[Any, ...]) -> None:
        """Adds what each row's adapter makes of `x` [rows, inputs] to `result` [rows, outputs of all modules side by side]."""
        if stack := self._stack(modules):
            # Hu et al. 2021, eq. 3: W x + scaling * B A x.
            hidden = torch.nn.functional.linear(x, stack.a)
            if (strange := self._strange_ranks(stack.owner)) is not None:
                hidden = hidden.masked_fill_(strange.view(len(x), *(1,) * (x.dim() - 2), -1), 0)
            flat, narrow = result.view(-1, result.shape[-1]), hidden.view(-1, hidden.shape[-1])
            for part in stack.parts:
                flat[:, part.outputs].addmm_(narrow[:, part.ranks], part.b)
        end = 0
        for module in modules:
            outputs, end = slice(end, end + module.out_features), end + module.out_features
            for name in self._used:
                if isinstance(module, LoraLayer) and not _is_stackable(module, name):
                    self._apply_alone(module, name, result[..., outputs], x)

    def _forward(self, layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """What stands in for peft's `forward` of one layer."""
        result: torch.Tensor = layer.base_layer(x, *args, **kwargs)
        if self._used:
            self._added_(layer, result, x, *args, **kwargs)
        return result

    def _base_forward(self, layer: Any, forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """What stands in for `forward` of one layer of the base model."""
        result = forward(x)
        # Around others peft has a layer that adds what every kind of adapter makes of it.
        if self._used and layer not in self._wrapped:
            self.apply_(result, x, (layer,))
        return result

    def _added_(self, layer: Any, result: torch.Tensor, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        if type(layer) is Linear:
            self.apply_(result, x, (layer,))
            return
        for name in self._used:
            self._apply_alone(layer, name, result, x, *args, **kwargs)

    def _stack(self, modules: tuple[Any, ...]) -> _Stack | None:
        if modules not in self._stacks:
            self._stacks[modules] = _stacked(modules, self._stacked, self._matrices)
        return self._stacks[modules]

    def _matrices(self, module: Any, name: str) -> Matrices | None:
        """None = the adapter has none for this module that could be stacked."""
        if name in self._plain:
            return self._plain[name].get(getattr(module, "base_layer", module))
        if not _is_stackable(module, name):
            return None
        return Matrices(module.lora_A[name].weight, module.lora_B[name].weight.T * module.scaling[name])

    def _forget_stacks(self) -> None:
        self._stacked, self._stacks, self._strange = (), {}, {}

    def _strange_ranks(self, owner: tuple[int, ...]) -> torch.Tensor | None:
        """Which ranks [rows, ranks] are not the row's own; None = all are."""
        if owner not in self._strange:
            own = torch.tensor([[name == own for own in self._stacked] for name in self._names])
            strange = ~own[:, torch.tensor(owner)]
            self._strange[owner] = strange if bool(strange.any()) else None
        return self._strange[owner]

    def _apply_alone(self, layer: Any, name: str, result: torch.Tensor, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """What is not plain W x + B A x (DoRA, an embedding) is left to peft, for the rows that have it."""
        if name in layer.lora_A or name in layer.lora_embedding_A:
            layer._active_adapter = [name]
            rows = torch.tensor([row for row, own in enumerate(self._names) if own == name])
            result[rows] = type(layer).forward(layer, x[rows], *args, **kwargs)


def _is_stackable(layer: Any, name: str) -> bool:
    return type(layer) is Linear and name in layer.lora_A and not layer.use_dora.get(name) and not layer.lora_bias.get(name)


def _stacked(modules: tuple[Any, ...], names: Sequence[str], matrices: Callable[[Any, str], Matrices | None]) -> _Stack | None:
    """None = none of the adapters has `matrices` for any of the modules."""
    a: list[torch.Tensor] = []
    parts: list[_Part] = []
    owner: list[int] = []
    end = 0
    for module in modules:
        outputs, end = slice(end, end + module.out_features), end + module.out_features
        own = [(index, found) for index, name in enumerate(names) if (found := matrices(module, name))]
        if own:
            b = torch.cat([found.b for _, found in own])
            parts.append(_Part(b, slice(len(owner), len(owner) + len(b)), outputs))
            a += [found.a for _, found in own]
            owner += [index for index, found in own for _ in range(len(found.a))]
    return _Stack(torch.cat(a), tuple(parts), tuple(owner)) if parts else None
