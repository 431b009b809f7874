"""ModelService over Postgres and S3."""

import pytest
from unit.storage.catalogue_suite import CatalogueSuite
from unit.storage.model_suite import ModelSuite

pytestmark = pytest.mark.integration


class TestModelService(ModelSuite):
    """All rules of the suite."""


class TestCatalogue(CatalogueSuite):
    """All rules of the suite."""
