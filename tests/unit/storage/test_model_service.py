"""ModelService over the fakes."""

from unit.storage.model_suite import ModelSuite


class TestModelService(ModelSuite):
    """All rules of the suite."""
