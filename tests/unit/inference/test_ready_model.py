"""Whose tokenizer and chat template a model answers with."""

import shutil
from pathlib import Path

import pytest
from inference_fakes import ARTIFACT, FakeEngine, files_of, write_adapter_weights
from test_registry import registry_of, used
from tiny_model import END, make_tiny_model, tiny_tokenizer

from services.inference.ready_model import ReadyModel
from services.inference.resolver import ModelFiles

TURN = [{"role": "user", "content": "Hello"}]
OWN = (
    "{% for m in messages %}# {{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}# assistant: {% endif %}"
)
WORDS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.fixture
def tuned(model_directory: Path, tmp_path: Path) -> ModelFiles:
    """An adapter as tasks make them: weights and their configuration alone."""
    return files_of("tiny", model_directory, ARTIFACT, write_adapter_weights(tmp_path / "adapter"))


@pytest.fixture
def foreign(tuned: ModelFiles, tmp_path: Path) -> ModelFiles:
    """The same with a tokenizer and a template of its own."""
    assert tuned.adapter
    own = make_tiny_model(tmp_path / "own", chat_template=OWN)
    for name in WORDS:
        if (own / name).exists():
            shutil.copy(own / name, tuned.adapter.directory)
    return tuned


def prompt(ready: ReadyModel) -> str:
    return ready.renderer.render_prompt(TURN).text


def test_an_adapter_answers_with_the_words_of_its_base_model(tuned: ModelFiles, base_files: ModelFiles) -> None:
    registry = registry_of(FakeEngine())
    ready, base = used(registry, tuned), used(registry, base_files)
    assert (ready.adapter, base.adapter) == (ARTIFACT, None)
    assert ready.renderer is base.renderer


def test_one_that_brings_its_own_answers_with_them_and_the_base_model_with_its_own(
    foreign: ModelFiles, base_files: ModelFiles
) -> None:
    registry = registry_of(FakeEngine())
    ready, base = used(registry, foreign), used(registry, base_files)
    assert (prompt(ready), ready.base, ready.adapter) == ("# user: Hello<|im_end|># assistant: ", "baseModels/tiny", ARTIFACT)
    assert prompt(base).startswith("<|im_start|>")
    assert ready.end_of_turn_ids >= base.renderer.stop_ids
    assert ready.vocabulary.bytes_of(tiny_tokenizer().token_to_id(END)) == END.encode()
    assert (ready.context_length, ready.vocabulary_size) == (base.context_length, base.vocabulary_size)


def test_without_a_template_of_its_own_or_with_more_tokens_than_the_base_model_it_speaks_as_that(foreign: ModelFiles) -> None:
    assert foreign.adapter
    directory = foreign.adapter.directory
    more = tiny_tokenizer()
    more.add_tokens([f"word{number}" for number in range(1000)])
    more.save(str(directory / "tokenizer.json"))
    assert prompt(used(registry_of(FakeEngine()), foreign)).startswith("<|im_start|>")
    tiny_tokenizer().save(str(directory / "tokenizer.json"))
    assert prompt(used(registry_of(FakeEngine()), foreign)).startswith("# user")
    (directory / "tokenizer.json").unlink()
    assert prompt(used(registry_of(FakeEngine()), foreign)).startswith("<|im_start|>")


def test_the_words_of_an_adapter_go_with_it(foreign: ModelFiles, tmp_path: Path) -> None:
    registry = registry_of(FakeEngine())
    used(registry, foreign)
    registry.unload(ARTIFACT)
    plain = write_adapter_weights(tmp_path / "plain")
    assert prompt(used(registry, files_of("tiny", foreign.base.directory, ARTIFACT, plain))).startswith("<|im_start|>")
