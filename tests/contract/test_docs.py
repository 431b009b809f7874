"""The generated reference is fresh, complete and without holes."""

import importlib.util
import pathlib
import re

import pytest

from docs import works_with
from docs.dataset_errors import EXAMPLES
from services.common.catalogue import CATALOGUE
from services.common.dataset_reasons import FILE_PROBLEMS, ROW_PROBLEMS
from services.storage.checking.budget import Budget
from services.storage.checking.checker import DatasetChecker
from services.storage.checking.outputs import DroppedOutput, RowsOutput

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANOMALIES = {
    "LOSS_NOT_FINITE",
    "LOSS_SPIKE",
    "LOSS_PLATEAU",
    "OVERFITTING",
    "LEARNING_RATE_WITHOUT_EFFECT",
    "DATA_STARVATION",
    "BATCH_WITHOUT_TARGETS",
    "OUT_OF_MEMORY",
    "TRAINING_STALLED",
    "DISK_FULL",
    "CHECKPOINT_FAILED",
    "EARLY_STOPPED",
    "TIME_LIMIT_REACHED",
}


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["errors.md", "settings.md", "api.md", "cli.md", "openai.md"])
def test_the_committed_page_is_what_the_code_says(generator, name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == generator.PAGES[name](), "run `make docs`"


def test_the_table_of_clients_in_readme_is_what_their_tests_saw() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme == works_with.with_table(readme), "run `make docs`"
    for client, outcome in works_with.seen().items():
        assert f"| {client} | {outcome['version']} |" in readme
        assert set(outcome["did"]) <= set(works_with.COLUMNS)


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


def test_every_dataset_reason_has_a_fresh_page_and_no_page_is_left_over(generator) -> None:
    errors = ROOT / "docs" / "errors"
    reasons = [reason for reason in CATALOGUE if reason.startswith("DATASET_")]
    assert {path.stem for path in errors.glob("*.md")} == {"README", *reasons}
    assert (errors / "README.md").read_text() == generator.dataset_errors_index(), "run `make docs`"
    for reason in reasons:
        assert (errors / f"{reason}.md").read_text() == generator.dataset_error_page(reason), "run `make docs`"


def checked(content: str | bytes) -> dict:
    checker = DatasetChecker(RowsOutput(None), DroppedOutput(None), Budget())
    checker.feed(content.encode() if isinstance(content, str) else content)
    return checker.finish()["report"]


@pytest.mark.parametrize("reason", [reason for reason in (*FILE_PROBLEMS, *ROW_PROBLEMS) if EXAMPLES[reason].bad])
def test_the_bad_example_shows_its_reason_and_the_mended_one_is_good(reason: str) -> None:
    assert list(checked(EXAMPLES[reason].bad)["violations_by_reason"]) == [reason]
    assert checked(EXAMPLES[reason].good)["violations"] == []


def test_nearly_every_reason_of_the_checker_has_an_example() -> None:
    without = [reason for reason in (*FILE_PROBLEMS, *ROW_PROBLEMS) if not (EXAMPLES[reason].bad and EXAMPLES[reason].good)]
    assert without == ["DATASET_LINE_TOO_LONG"]


def test_every_command_has_a_section_and_no_option_is_without_a_meaning(generator) -> None:
    page = generator.cli_page()
    for command in ("data check", "data preview", "data convert", "task create", "model chat", "up", "version"):
        assert f"## tunesmith {command}\n" in page
    assert [row for row in page.splitlines() if row.startswith("| `") and row.endswith("|  |")] == []


@pytest.mark.parametrize("reason", sorted(ANOMALIES))
def test_every_anomaly_is_explained_and_has_an_advice(reason: str) -> None:
    assert CATALOGUE[reason].hint
    assert f"| `{reason}` |" in (ROOT / "docs" / "how-to" / "when-training-goes-wrong.md").read_text()


def test_no_anomaly_is_reported_that_is_not_explained() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "services" / "trainer").rglob("*.py"))
    reported = set(re.findall(r'(?:Finding|anomaly)\(\s*"([A-Z_]+)"', sources))
    assert len(reported) > 7
    assert reported <= ANOMALIES
