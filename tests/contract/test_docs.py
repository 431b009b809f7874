"""The generated reference is fresh, complete and without holes."""

import importlib.util
import pathlib

import pytest

from services.common.catalogue import CATALOGUE

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["errors.md", "settings.md", "api.md", "cli.md"])
def test_the_committed_page_is_what_the_code_says(generator, name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == generator.PAGES[name](), "run `make docs`"


def test_every_reason_has_a_row(generator) -> None:
    page = generator.errors_page()
    for reason, entry in CATALOGUE.items():
        assert f"| `{reason}` | {entry.status} | {entry.error_class.value} | {entry.hint} |" in page


def test_every_setting_has_a_meaning(generator) -> None:
    rows = [line for line in generator.settings_page().splitlines() if line.startswith("| `TUNESMITH_")]
    assert len(rows) > 20
    assert [row for row in rows if row.endswith("|  |")] == []


def test_no_cell_of_the_api_reference_is_empty(generator) -> None:
    rows = [line for line in generator.api_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 300
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_command_has_a_section_and_no_option_is_without_a_meaning(generator) -> None:
    page = generator.cli_page()
    for command in ("data check", "data preview", "data convert", "task create", "model chat", "up", "version"):
        assert f"## tunesmith {command}\n" in page
    assert [row for row in page.splitlines() if row.startswith("| `") and row.endswith("|  |")] == []
