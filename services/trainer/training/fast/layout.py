"""Where the tokens of a micro-batch stand when none is padding; made once per micro-batch, used by every layer.

The tokens of all sequences lie behind each other in one dimension: first the shared prefix, then the sequences, the shortest
first. Tokens that no requested state depends on (those behind the last predictor) are left out. Attention alone needs
rectangles: sequences of about equal length form a group, filled up by repeating their last token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

# The attention kernel of torch works in blocks of this many tokens.
_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Group:
    """B sequences in a rectangle of T columns."""

    index: Tensor
    """[B, T]. Row of each token; columns behind the end of a sequence repeat its last row."""
    places: Tensor
    """[n]. Where in the flattened rectangle the real tokens are, sequence by sequence."""
    rows: slice
    """Where the real tokens are among all; those of a group follow each other."""


@dataclass(frozen=True, slots=True)
class Layout:
    """N tokens in rows."""

    token_ids: Tensor
    """[N]."""
    positions: Tensor
    """[N]. From 0 in each sequence; those after the prefix count on."""
    prefix: int
    """P. The first rows are the prefix, which all other rows see."""
    groups: tuple[Group, ...]
    """The prefix, if there is one, is a group of its own."""
    kept: Tensor
    """[M]. Rows whose states were asked for, in that order."""


def lay_out(prefix: Tensor, token_ids: Tensor, lengths: Sequence[int], rows: Tensor, columns: Tensor) -> Layout:
    """Of `token_ids` [B, T], `lengths` of them real, after `prefix` [P]; the states at `rows` and `columns` [M] are wanted."""
    wanted = _wanted(lengths, rows.tolist(), columns.tolist())
    order = sorted(range(len(wanted)), key=lambda row: (wanted[row], row))
    shared, device = prefix.numel(), token_ids.device
    starts, end = [0] * len(wanted), shared
    for row in order:
        starts[row] = end
        end += wanted[row]
    tokens = [prefix.reshape(-1), *(token_ids[row, : wanted[row]] for row in order)]
    positions = [torch.arange(shared), *(torch.arange(shared, shared + wanted[row]) for row in order)]
    groups = [_group([0], [shared])] if shared else []
    for _, members in groupby(order, key=lambda row: -(-wanted[row] // _BLOCK)):
        chosen = list(members)
        groups.append(_group([starts[row] for row in chosen], [wanted[row] for row in chosen]))
    kept = torch.tensor(starts, device=device)[rows] + columns
    return Layout(torch.cat(tokens), torch.cat(positions).to(device), shared, tuple(groups), kept)


def _wanted(lengths: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> list[int]:
    """Tokens of each sequence up to the last one asked for; at least one, so that every sequence keeps a row."""
    wanted = [1] * len(lengths)
    for row, column in zip(rows, columns, strict=True):
        wanted[row] = max(wanted[row], column + 1)
    return wanted


def _group(starts: Sequence[int], lengths: Sequence[int]) -> Group:
    width = max(lengths)
    columns = torch.arange(width)
    ends = torch.tensor(lengths).unsqueeze(1)
    index = torch.tensor(starts).unsqueeze(1) + torch.minimum(columns, ends - 1)
    return Group(index, (columns < ends).flatten().nonzero().flatten(), slice(starts[0], starts[0] + sum(lengths)))
