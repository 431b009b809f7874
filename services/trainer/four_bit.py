"""Whether this trainer can hold base weights in 4 bits: it tells so, and checks what it is asked. Standard library only."""

import importlib.util
from collections.abc import Mapping

LABEL = "four-bit"
"""Of a trainer that can; services/task_manager/domain/four_bit.py asks for it by the same name."""


def is_possible() -> bool:
    """Whether the kernels are installed, for processors and GPUs alike (the extra `qlora`); nothing is imported."""
    return importlib.util.find_spec("bitsandbytes") is not None


def labels() -> Mapping[str, str]:
    """What a trainer has beside the labels it is given."""
    return {LABEL: "yes"} if is_possible() else {}
