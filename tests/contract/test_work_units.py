"""How tests are shared out among processes."""

from types import SimpleNamespace

import pytest

from tests.work_units import SHARED_STACK, WorkUnits, pytest_xdist_make_scheduler, rank_of, unit_of

FAULTS = "tests/e2e/test_faults.py::test_a[x::y]"
TESTS = ["tests/contract/test_b.py::test_b", FAULTS, "tests/compat/test_c.py::test_c", "tests/e2e/test_d.py::test_d"]
TESTS += ["tests/unit/cli/test_e.py::TestE::test_e", "tests/unit/cli/test_e.py::test_f", "tests/unit/cli/test_g.py::test_g"]


class Process:
    """What xdist knows of a test process; `given` are the numbers of the tests it was sent."""

    gateway = SimpleNamespace(id="gw0")
    shutting_down = False

    def __init__(self) -> None:
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def configured(dist: str) -> pytest.Config:
    option = SimpleNamespace(loadscopereorder=False)
    values = {"tx": ["popen", "popen"], "dist": dist}
    return SimpleNamespace(option=option, getvalue=values.get, getoption=values.get)  # type: ignore[return-value]


def test_files_are_units_and_what_shares_the_stack_is_one() -> None:
    assert [unit_of(test) for test in TESTS] == [
        "tests/contract/test_b.py",
        "tests/e2e/test_faults.py",
        SHARED_STACK,
        SHARED_STACK,
        "tests/unit/cli/test_e.py",
        "tests/unit/cli/test_e.py",
        "tests/unit/cli/test_g.py",
    ]


def test_small_tests_come_beside_those_of_the_stack_and_after_all_others() -> None:
    assert [rank_of(test) for test in TESTS] == [0, 0, 1, 1, 2, 2, 2]


def test_one_process_gets_all_that_share_the_stack() -> None:
    units, processes = WorkUnits(configured("loadfile")), [Process(), Process()]
    for process in processes:
        units.add_node(process)  # type: ignore[arg-type]
        units.add_node_collection(process, TESTS)  # type: ignore[arg-type]
    units.schedule()
    first, second = processes
    assert (first.given, second.given) == ([0, 2, 3], [1, 4, 5])
    units.mark_test_complete(second, 1)  # type: ignore[arg-type]
    assert second.given == [1, 4, 5, 6]


@pytest.mark.parametrize(("dist", "ours"), [("loadfile", True), ("load", False), ("no", False)])
def test_other_ways_to_share_out_are_left_to_xdist(dist: str, ours: bool) -> None:
    assert isinstance(pytest_xdist_make_scheduler(configured(dist), None), WorkUnits) == ours


def test_whoever_asks_for_the_shared_stack_is_in_its_unit(request: pytest.FixtureRequest) -> None:
    asking = {item.nodeid for item in request.session.items if is_shared(item)}
    assert {test for test in asking if unit_of(test) != SHARED_STACK} == set()


def is_shared(item: pytest.Item) -> bool:
    """Whether the test's `stack` is the one that stands in tests/conftest.py."""
    found = item.session._fixturemanager.getfixturedefs("stack", item)  # type: ignore[attr-defined]
    return "stack" in item.fixturenames and found[-1].baseid == "tests"  # type: ignore[attr-defined]


def test_the_order_is_by_rank(request: pytest.FixtureRequest) -> None:
    ranks = [rank_of(item.nodeid) for item in request.session.items]
    assert ranks == sorted(ranks)
