"""ModelService over the fakes."""

from unit.storage.catalogue_suite import CatalogueSuite
from unit.storage.model_suite import ModelSuite


class TestModelService(ModelSuite):
    """All rules of the suite."""


class TestCatalogue(CatalogueSuite):
    """All rules of the suite."""
