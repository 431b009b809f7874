"""What a template makes of messages here is what transformers makes of them, for every family of chat templates."""

import json

import pytest
from chat_families import FAMILIES, make_family_model

from services.common.rendering import Renderer

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.integration

CONTENTS = ("Is it  on? 日本 🙂", " Yes,\n\nsince noon.\t", "And {{ now }}?", '{"lamp": "off"}')
TALK = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(CONTENTS)]
TOOL = {"type": "function", "function": {"name": "now", "description": "The <time> it's.", "parameters": {"type": "object"}}}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "now", "arguments": {"é": 1}}}],
}


@pytest.fixture(scope="module", params=FAMILIES)
def both(request, tmp_path_factory):
    directory = make_family_model(tmp_path_factory.mktemp(request.param), FAMILIES[request.param])
    return Renderer.from_directory(directory), transformers.AutoTokenizer.from_pretrained(directory)


def test_the_whole_conversation(both):
    renderer, tokenizer = both
    rendered = renderer.render(TALK)
    assert rendered.text == tokenizer.apply_chat_template(TALK, tokenize=False)
    assert rendered.token_ids == tokenizer.apply_chat_template(TALK)["input_ids"]


def test_the_prompt(both):
    renderer, tokenizer = both
    for count in (1, 3):
        theirs = tokenizer.apply_chat_template(TALK[:count], add_generation_prompt=True)["input_ids"]
        assert renderer.prompt(TALK[:count]) == theirs


def test_tools_and_calls(tmp_path):
    directory = make_family_model(tmp_path, FAMILIES["qwen3"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    messages = [TALK[0], CALL, {"role": "tool", "content": "noon"}, TALK[1]]
    called = {**CALL, "tool_calls": [{"type": "function", "function": {"name": "now", "arguments": json.dumps({"é": 1})}}]}
    ours = Renderer.from_directory(directory).render([TALK[0], called, *messages[2:]], [TOOL])
    assert ours.text == tokenizer.apply_chat_template(messages, tools=[TOOL], tokenize=False)


def test_the_mask_that_transformers_makes_of_smollm2_is_empty_and_ours_is_not(tmp_path):
    """The trap this renderer exists for."""
    directory = make_family_model(tmp_path, FAMILIES["smollm2"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    theirs = tokenizer.apply_chat_template(TALK, return_assistant_tokens_mask=True, return_dict=True)
    assert not any(theirs["assistant_masks"])
    assert any(Renderer.from_directory(directory).render(TALK).loss_mask)
