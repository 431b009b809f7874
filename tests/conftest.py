"""Fixtures for every test: Postgres (`postgres_dsn`, `empty_dsn`), S3 (`s3`), scripted services (`platform`), the whole stack
(`stack`)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests are imported by path, so the shared modules beside this file are found through the search path.
sys.path.insert(0, str(Path(__file__).parent))

from embedded import S3, empty_dsn, postgres_dsn, postgres_server, s3, s3_server
from fake_platform import FakePlatform, serving

from tests.shared_stack import rows, stack
from tests.work_units import pytest_xdist_make_scheduler, rank_of

# Suites that several folders run are no test modules by name; whoever imports one of them first, it must say what was compared.
pytest.register_assert_rewrite("unit.storage")

# How long an example takes says something of the machine, nothing of the code.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

__all__ = [
    "S3",
    "FakePlatform",
    "empty_dsn",
    "platform",
    "postgres_dsn",
    "postgres_server",
    "pytest_xdist_make_scheduler",
    "rows",
    "s3",
    "s3_server",
    "stack",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked nightly runs when it is asked for by that name; the rest in the order of `work_units`."""
    if "nightly" not in (config.option.markexpr or ""):
        heavy = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=heavy)
        items[:] = [item for item in items if item not in heavy]
    items.sort(key=lambda item: rank_of(item.nodeid))


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakePlatform]:
    """Scripted services that the SDK and the command line find through the environment."""
    with serving() as running:
        for service in ("TASK_MANAGER", "STORAGE", "INFERENCE"):
            monkeypatch.setenv(f"TUNESMITH_{service}_ADDRESS", running.address)
        monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path / "data"))
        yield running
