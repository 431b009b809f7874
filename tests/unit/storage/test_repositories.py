"""The repositories in memory."""

import pytest
from unit.storage.fakes import Clock, memory_repositories
from unit.storage.repository_suite import RepositorySuite

from services.storage.registration import Repositories


class TestRepositories(RepositorySuite):
    """All rules of the suite."""

    @pytest.fixture
    def repositories(self, clock: Clock) -> Repositories:
        return memory_repositories(clock)
