"""Golden renderings of the templates people use: text, ids and mask, and the trap each family is known for."""

import pytest
from chat_families import FAMILIES, family_tokenizer, make_family_model

from services.common.rendering import Renderer, RenderError

U1, A1, U2, A2 = (
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Yo."},
    {"role": "user", "content": "No?"},
    {"role": "assistant", "content": "Ok."},
)
TALK = [U1, A1, U2, A2]
SYSTEM = {"role": "system", "content": "Be."}

# What is given stands plain, what is learned in a tuple.
GOLDEN = {
    "smollm2": [
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n",
        ("Yo.<|im_end|>",),
        "\n<|im_start|>user\nNo?<|im_end|>\n<|im_start|>assistant\n",
        ("Ok.<|im_end|>",),
        "\n",
    ],
    "llama3": [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("Yo.<|eot_id|>",),
        "<|start_header_id|>user<|end_header_id|>\n\nNo?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ("Ok.<|eot_id|>",),
    ],
    "qwen3": [
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n",
        ("Yo.<|im_end|>",),
        "\n<|im_start|>user\nNo?<|im_end|>\n<|im_start|>assistant\n",
        ("<think>\n\n</think>\n\nOk.<|im_end|>",),
        "\n",
    ],
    "mistral": ["<s>[INST] Hi?[/INST]", (" Yo.</s>",), "[INST] No?[/INST]", (" Ok.</s>",)],
    "gemma": [
        "<bos><start_of_turn>user\nHi?<end_of_turn>\n<start_of_turn>model\n",
        ("Yo.<end_of_turn>",),
        "\n<start_of_turn>user\nNo?<end_of_turn>\n<start_of_turn>model\n",
        ("Ok.<end_of_turn>",),
        "\n",
    ],
    "phi3": [
        "<|user|>\nHi?<|end|>\n<|assistant|>\n",
        ("Yo.<|end|>",),
        "\n<|user|>\nNo?<|end|>\n<|assistant|>\n",
        ("Ok.<|end|>",),
        "\n<|endoftext|>",
    ],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {name: Renderer.from_directory(make_family_model(root / name, family)) for name, family in FAMILIES.items()}


def expected(name, parts):
    """(text, ids, mask) of a golden rendering, by the tokenizer as it is without what it would add."""
    tokenizer = family_tokenizer(FAMILIES[name])
    text, ids, mask = "", [], []
    for part in parts:
        piece = part if isinstance(part, str) else part[0]
        new = tokenizer.encode(piece, add_special_tokens=False).ids
        text, ids, mask = text + piece, ids + new, mask + [not isinstance(part, str)] * len(new)
    return text, ids, mask


def trained(renderer, rendered):
    return renderer.decode(
        [token for token, learned in zip(rendered.token_ids, rendered.loss_mask, strict=True) if learned],
        skip_special_tokens=False,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_golden(models, name):
    rendered = models[name].render(TALK)
    assert (rendered.text, rendered.token_ids, rendered.loss_mask) == expected(name, GOLDEN[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gates_pass(models, name):
    models[name].check()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_prompt_is_a_prefix_of_what_is_trained(models, name):
    rendered = models[name].render(TALK)
    for count in (1, 3):
        prompt = models[name].prompt(TALK[:count])
        assert rendered.token_ids[: len(prompt)] == prompt
        assert rendered.loss_mask[len(prompt) - 1 : len(prompt) + 1] == [False, True]


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("smollm2", {"<|im_end|>"}),
        ("llama3", {"<|eot_id|>", "<|end_of_text|>"}),
        ("qwen3", {"<|im_end|>"}),
        ("mistral", {"</s>"}),
        ("gemma", {"<end_of_turn>", "<eos>"}),
        ("phi3", {"<|end|>", "<|endoftext|>"}),
    ],
)
def test_generation_ends_with_what_was_trained_to_end_a_turn(models, name, ends):
    tokenizer = family_tokenizer(FAMILIES[name])
    assert models[name].end_of_turn_ids == {tokenizer.token_to_id(token) for token in ends}


@pytest.mark.parametrize("name", ["llama3", "mistral", "gemma"])
def test_a_tokenizer_that_adds_bos_to_a_template_that_writes_it_gets_one(models, name):
    bos = family_tokenizer(FAMILIES[name]).token_to_id(FAMILIES[name].bos)
    assert models[name].render(TALK).token_ids.count(bos) == 1
    assert models[name].prompt(TALK[:1]).count(bos) == 1


def test_smollm2_has_no_generation_marks_and_still_a_mask(models):
    assert "generation %}" not in FAMILIES["smollm2"].template
    assert trained(models["smollm2"], models["smollm2"].render([U1, A1])) == "Yo.<|im_end|>"


@pytest.mark.parametrize("name", ["llama3", "gemma"])
def test_trimmed_content_is_trained_as_trimmed(models, name):
    rendered = models[name].render([U1, {"role": "assistant", "content": "\n  Yo. \n"}])
    assert rendered.text == models[name].render([U1, A1]).text
    assert trained(models[name], rendered).startswith("Yo.<")


def test_qwen_drops_earlier_reasoning_and_the_row_is_refused(models):
    thinking = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYo."}
    with pytest.raises(RenderError, match=r"messages\[1\]: later messages change .* weight 0") as caught:
        models["qwen3"].render([U1, thinking, U2, A2])
    assert caught.value.reason == "DATASET_UNUSABLE"


def test_qwen_reasoning_is_trained_in_the_last_answer_when_the_earlier_have_weight_0(models):
    thinking = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYo."}
    rendered = models["qwen3"].render([U1, thinking | {"weight": 0}, U2, thinking])
    assert trained(models["qwen3"], rendered) == "<think>\nhm\n</think>\n\nYo.<|im_end|>"
    assert "<|im_start|>assistant\nYo.<|im_end|>\n<|im_start|>user" in rendered.text


def test_mistral_shows_the_system_message_in_prompts_and_drops_it_in_training_so_the_row_is_refused(models):
    """Only a question that comes last gets it: training on the row would teach answers to questions that are never asked."""
    ids = models["mistral"].prompt([SYSTEM, U1])
    assert models["mistral"].decode(ids, skip_special_tokens=False) == "<s>[INST] Be.\n\nHi?[/INST]"
    with pytest.raises(RenderError, match=r"messages\[2\]: .* drops the system message .* put it into the user's") as caught:
        models["mistral"].render([SYSTEM, U1, A1])
    assert caught.value.reason == "DATASET_UNUSABLE"


def test_mistral_refuses_roles_out_of_turn(models):
    with pytest.raises(RenderError, match="refuses the messages: roles must alternate") as caught:
        models["mistral"].render([U1, U2, A1])
    assert caught.value.reason == "DATASET_UNUSABLE"


def test_gemma_refuses_a_system_message(models):
    with pytest.raises(RenderError, match="System role not supported") as caught:
        models["gemma"].render([SYSTEM, U1, A1])
    assert caught.value.reason == "DATASET_UNUSABLE"


def test_phi_ends_texts_that_are_no_prompts_and_that_end_is_not_learned(models):
    rendered = models["phi3"].render([U1, A1])
    assert rendered.text.endswith("Yo.<|end|>\n<|endoftext|>")
    assert trained(models["phi3"], rendered) == "Yo.<|end|>"


def test_an_answer_that_a_template_drops_entirely_is_refused(models):
    with pytest.raises(RenderError, match="later messages change"):
        models["qwen3"].render([U1, {"role": "assistant", "content": "<think>\nhm\n</think>"}, U2, A2])
