import pytest
from fast_models import MODELS, double


def pytest_collection_modifyitems(items):
    for item in items:
        if "fast" in item.path.parts:
            # peft asks transformers an old question; both answer rightly.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(params=sorted(MODELS))
def model(request):
    return double(MODELS[request.param]())
