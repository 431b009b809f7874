"""Chance as it was before, whatever happens in between; used by the engine around what training must not notice."""

import contextlib
import random
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Inside, random numbers may be drawn; afterwards the generators are as before."""
    python = random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    random.setstate(python)
