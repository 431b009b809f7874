"""Whatever changes what is counted changes the version, and nothing else does."""

import importlib.metadata
import pathlib
from collections.abc import Iterator

import pytest

from services.storage import renderer_version as module
from services.storage.renderer_version import renderer_version


@pytest.fixture
def sources(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """Sources like those of the services, in a folder of their own."""
    for folder in ("common/rendering", "storage/tokens", "storage/checking"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "code.py").write_text("one = 1\n")
    monkeypatch.setattr(module, "_SERVICES", tmp_path)
    renderer_version.cache_clear()
    yield tmp_path
    renderer_version.cache_clear()


def anew() -> str:
    renderer_version.cache_clear()
    return renderer_version()


def test_it_is_the_same_every_time() -> None:
    assert anew() == anew()
    assert len(renderer_version()) == 64


@pytest.mark.parametrize("folder", ["common/rendering", "storage/tokens"])
def test_it_changes_with_the_code(sources: pathlib.Path, folder: str) -> None:
    before = anew()
    (sources / folder / "code.py").write_text("one = 2\n")
    changed = anew()
    (sources / folder / "more.py").write_text("")
    assert len({before, changed, anew()}) == 3


def test_it_does_not_change_with_other_code(sources: pathlib.Path) -> None:
    before = anew()
    (sources / "storage" / "checking" / "code.py").write_text("one = 2\n")
    (sources / "common" / "rendering" / "notes.txt").write_text("x")
    assert anew() == before


@pytest.mark.parametrize("package", ["jinja2", "tokenizers"])
def test_it_changes_with_the_packages(sources: pathlib.Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    before, version = anew(), importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == package else version(name))
    assert anew() != before


def test_the_real_sources_are_there() -> None:
    assert [folder for folder in module._SOURCES if not list((module._SERVICES / folder).glob("*.py"))] == []
