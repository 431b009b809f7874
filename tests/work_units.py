"""How tests are shared out among several processes: those of a file go to one of them, and so do all that share the stack."""

import pytest
from xdist.scheduler import LoadFileScheduling, Scheduling

SHARED_STACK = "the shared stack"
_WITH_A_STACK_OF_THEIR_OWN = ("tests/e2e/test_faults.py", "tests/e2e/test_smollm2.py")


def unit_of(nodeid: str) -> str:
    """The name of what runs in one process: a file, or `SHARED_STACK`."""
    file = nodeid.partition("::")[0]
    shares = file.startswith(("tests/compat/", "tests/e2e/")) and file not in _WITH_A_STACK_OF_THEIR_OWN
    return SHARED_STACK if shares else file


def rank_of(nodeid: str) -> int:
    """Small ones first. While one process works with the stack, others have small tests left; and a stack that is not used any
    more is not kept alive for long."""
    unit = unit_of(nodeid)
    return 1 if unit == SHARED_STACK else 2 if unit.startswith("tests/unit/") else 0


class WorkUnits(LoadFileScheduling):
    """A stack takes half a minute of a processor to start and some of it while it idles: there is one."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling | None:
    """Of `--dist loadfile`; None = xdist's own."""
    return WorkUnits(config, log) if config.getoption("dist") == "loadfile" else None
