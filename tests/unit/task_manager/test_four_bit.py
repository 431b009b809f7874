"""QLORA takes a trainer that can hold weights in 4 bits; where none can, the task is refused before it waits."""

from collections.abc import Mapping

import pytest

from services.task_manager.domain import four_bit

ABLE: Mapping[str, str] = {"zone": "a", "four-bit": "yes"}
UNABLE: Mapping[str, str] = {"zone": "b"}


@pytest.mark.parametrize(
    ("runners", "is_refused"),
    [([UNABLE], True), ([UNABLE, ABLE], False), ([ABLE], False), ([], False), ([{"four-bit": "no"}], True)],
    ids=str,
)
def test_it_is_refused_where_no_trainer_can(runners: list[Mapping[str, str]], is_refused: bool) -> None:
    found = list(four_bit.violations(runners, "task.spec.fine_tuning.tuning"))
    assert [each.field for each in found] == (["task.spec.fine_tuning.tuning"] if is_refused else [])
    assert all("bitsandbytes" in each.description and "use LORA" in each.description for each in found)
