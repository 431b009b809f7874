"""Tuning QLORA keeps base weights in 4 bits, which takes a trainer that has the kernels; used to check, to plan and to place."""

from collections.abc import Iterable, Iterator, Mapping

from services.common.errors import Violation

TUNING = "QLORA"
LABELS: Mapping[str, str] = {"four-bit": "yes"}
"""Of a trainer that can; services/trainer/four_bit.py gives the same."""


def violations(runners: Iterable[Mapping[str, str]], field: str) -> Iterator[Violation]:
    """`runners`: the labels of all trainers that were ever heard of. While none was, the task may wait for one."""
    known = list(runners)
    if known and not any(LABELS.items() <= labels.items() for labels in known):
        yield Violation(
            field,
            "QLORA needs base weights in 4 bits, and none of the trainers has bitsandbytes, which brings the kernels for it; "
            "use LORA, or install the extra qlora where the trainer runs",
        )
