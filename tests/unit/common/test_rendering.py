"""The renderer: what text, which ids, which of them carry loss. Golden cases on a tiny byte-level tokenizer."""

import json
import subprocess
import sys

import pytest
from tiny_model import CHAT_TEMPLATE, END, PAD, START, make_tiny_model, tiny_tokenizer
from tokenizers import processors

from services.common.rendering import Renderer, RenderError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is it the kettle?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": " café – 日本 🙂\n\n"},
]
# What a family does that begins every text with BOS, strips what people say and closes turns with its end-of-text token.
BOS_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[{{ m['content'] | trim }}]"
    "{% else %}{{ m['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)

FORGETFUL_TEMPLATE = CHAT_TEMPLATE.replace(
    "message['content']", "('' if message['role'] == 'assistant' and not loop.last else message['content'])"
)
OPEN_TEMPLATE = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return Renderer.from_directory(make_tiny_model(tmp_path_factory.mktemp("model")))


def make(tmp_path, template, **tokenizer_config):
    make_tiny_model(tmp_path, chat_template=template)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | tokenizer_config))
    return Renderer.from_directory(tmp_path)


def trained_text(renderer, rendered):
    """The text of each run of tokens that carry loss."""
    runs, previous = [], False
    for token, trained in zip(rendered.token_ids, rendered.loss_mask, strict=True):
        if trained and not previous:
            runs.append([])
        if trained:
            runs[-1].append(token)
        previous = trained
    return [renderer.decode(run, skip_special_tokens=False) for run in runs]


def test_text_is_what_the_template_writes(renderer):
    assert renderer.render(CHAT[:3]).text == (
        f"{START}system\nBe brief.{END}\n{START}user\nIs it the kettle?{END}\n{START}assistant\nYes.{END}\n"
    )


def test_loss_is_on_the_assistant_content_and_its_end_of_turn_and_nowhere_else(renderer):
    assert trained_text(renderer, renderer.render(CHAT)) == [f"Yes.{END}", f" café – 日本 🙂\n\n{END}"]


def test_the_newline_after_the_end_of_turn_carries_no_loss(renderer):
    rendered = renderer.render(CHAT)
    assert rendered.text.endswith(f"{END}\n")
    assert rendered.loss_mask[-2:] == [True, False]


def test_lists_are_equally_long_and_offsets_cover_the_text(renderer):
    rendered = renderer.render(CHAT)
    assert len(rendered.token_ids) == len(rendered.loss_mask) == len(rendered.offsets)
    assert rendered.offsets[0][0] == 0
    assert rendered.offsets[-1][1] == len(rendered.text)
    assert all(left[1] >= right[0] for left, right in zip(rendered.offsets, rendered.offsets[1:], strict=False))


def test_golden_ids(renderer):
    rendered = renderer.render([{"role": "user", "content": "the user"}, {"role": "assistant", "content": "in an"}])
    ids = tiny_tokenizer().get_vocab()
    pieces = [START, "user", "Ċ", "the", "Ġ", "user", END, "Ċ", START, *"assist", "an", "t", "Ċ", "in", "Ġ", "an", END, "Ċ"]
    assert rendered.token_ids == [ids[piece] for piece in pieces]
    assert rendered.loss_mask == [False] * 18 + [True] * 4 + [False]


def test_every_token_of_the_answer_carries_loss_whatever_the_answer_is(renderer):
    for content in (" ", "\n", "a", "  x  ", "é", "日本語", "🙂" * 3, "tab\tnewline\n", "the user", END, "{}" * 40):
        rendered = renderer.render([{"role": "user", "content": "q"}, {"role": "assistant", "content": content}])
        assert trained_text(renderer, rendered) == [content + END], repr(content)


def test_prompt_is_the_prefix_of_what_was_trained(renderer):
    rendered = renderer.render(CHAT)
    for turn in (2, 4):
        prompt = renderer.prompt(CHAT[:turn])
        assert rendered.token_ids[: len(prompt)] == prompt
        assert rendered.loss_mask[len(prompt) - 1 : len(prompt) + 1] == [False, True]


def test_decode_leaves_control_tokens_out_unless_asked(renderer):
    rendered = renderer.render(CHAT[1:3])
    assert renderer.decode(rendered.token_ids) == "user\nIs it the kettle?\nassistant\nYes.\n"
    assert renderer.decode(rendered.token_ids, skip_special_tokens=False) == rendered.text


def test_a_conversation_without_an_assistant_has_no_loss(renderer):
    assert not any(renderer.render(CHAT[:2]).loss_mask)


def test_end_of_turn_ids_hold_the_closing_token_of_the_template_and_the_models_own_end_of_text(tmp_path):
    ids = tiny_tokenizer().get_vocab()
    renderer = make(tmp_path, CHAT_TEMPLATE, eos_token=PAD)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [ids[START]]}))
    assert renderer.end_of_turn_ids >= {ids[END], ids[PAD]}
    assert Renderer.from_directory(tmp_path).end_of_turn_ids == {ids[END], ids[PAD], ids[START]}


def test_bos_is_written_once_even_when_the_tokenizer_would_add_its_own(tmp_path):
    make(tmp_path, BOS_TEMPLATE, bos_token=START, eos_token=END)
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    renderer = Renderer.from_directory(tmp_path)
    rendered = renderer.render([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])
    assert rendered.token_ids.count(1) == 1
    assert renderer.prompt([{"role": "user", "content": "q"}]).count(1) == 1
    renderer.check()


def test_loss_follows_content_that_the_template_changes(tmp_path):
    renderer = make(tmp_path, BOS_TEMPLATE, bos_token=START, eos_token=END)
    rendered = renderer.render([{"role": "user", "content": " q "}, {"role": "assistant", "content": "  stripped  "}])
    assert trained_text(renderer, rendered) == [f"stripped{END}"]


def test_generation_markers_change_nothing(tmp_path, renderer):
    marked = CHAT_TEMPLATE.replace("{{ '<|im_start|>' + message", "{% generation %}{{ '<|im_start|>' + message", 1).replace(
        "{% endfor %}", "{% endgeneration %}{% endfor %}"
    )
    assert "generation" in marked
    assert make(tmp_path, marked).render(CHAT) == renderer.render(CHAT)


def test_saved_truncation_and_padding_never_lose_tokens(tmp_path, renderer):
    make_tiny_model(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(max_length=8)
    tokenizer.enable_padding(length=4000)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Renderer.from_directory(tmp_path).render(CHAT) == renderer.render(CHAT)


def test_a_post_processor_that_trims_offsets_never_loses_the_loss_on_spaces(tmp_path, renderer):
    make_tiny_model(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Renderer.from_directory(tmp_path).render(CHAT) == renderer.render(CHAT)


def test_template_may_stand_in_the_tokenizer_config(tmp_path, renderer):
    make_tiny_model(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"chat_template": CHAT_TEMPLATE}))
    assert Renderer.from_directory(tmp_path).render(CHAT) == renderer.render(CHAT)
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHAT_TEMPLATE}]
    path.write_text(json.dumps(config | {"chat_template": named}))
    assert Renderer.from_directory(tmp_path).render(CHAT) == renderer.render(CHAT)


def test_special_tokens_may_be_objects(tmp_path):
    renderer = make(tmp_path, BOS_TEMPLATE, bos_token={"content": START, "lstrip": False}, eos_token={"content": END})
    assert renderer.render([{"role": "user", "content": "q"}]).text == f"{START}[q]"


def test_check_passes_the_tiny_model(renderer):
    renderer.check()


@pytest.mark.parametrize(
    ("template", "says"),
    [
        # The generation prompt asks in other words than those trained.
        (CHAT_TEMPLATE.replace("<|im_start|>assistant\n", "<|im_start|>bot\n"), "generation prompt"),
        # Earlier answers are rendered differently once something follows.
        (FORGETFUL_TEMPLATE, "later messages change"),
        # No special token closes a turn.
        (OPEN_TEMPLATE, "closes an assistant turn"),
        ("{{ bos_token + bos_token }}" + CHAT_TEMPLATE, "two BOS"),
    ],
)
def test_check_refuses_a_template_that_would_train_the_wrong_thing(tmp_path, template, says):
    renderer = make(tmp_path, template, bos_token=START)
    with pytest.raises(RenderError, match=says) as caught:
        renderer.check()
    assert caught.value.reason == "BASE_MODEL_UNUSABLE"


def merging_model(tmp_path):
    """The generation prompt ends in a blank that " the" and " Y" swallow: prompt and trained text differ in their tokens."""
    make_tiny_model(
        tmp_path, chat_template=CHAT_TEMPLATE.replace("['role'] + '\n'", "['role'] + ' '").replace("assistant\n", "assistant ")
    )
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"].append(["Ġ", "Y"])
    tokenizer["model"]["vocab"]["ĠY"] = len(tokenizer["model"]["vocab"])
    path.write_text(json.dumps(tokenizer))
    return Renderer.from_directory(tmp_path)


def test_a_token_that_reaches_from_the_prompt_into_the_answer_carries_loss(tmp_path):
    renderer = merging_model(tmp_path)
    rendered = renderer.render([{"role": "user", "content": "q"}, {"role": "assistant", "content": "the"}])
    assert trained_text(renderer, rendered) == [f" the{END}"]


def test_check_refuses_a_prompt_whose_last_token_merges_with_the_answer(tmp_path):
    with pytest.raises(RenderError, match="tokens of the generation prompt are not a prefix"):
        merging_model(tmp_path).check()


def test_a_conversation_that_begins_with_the_assistant_is_refused_when_the_template_inserts_a_system_prompt(tmp_path):
    inserted = "{% if messages and messages[0].role != 'system' %}{{ '<|im_start|>system\nx<|im_end|>\n' }}{% endif %}"
    with pytest.raises(RenderError, match="must begin with a user or system message"):
        make(tmp_path, inserted + CHAT_TEMPLATE).render([{"role": "assistant", "content": "hello"}])


def test_what_the_template_itself_refuses_is_the_datasets_fault(tmp_path):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE
    with pytest.raises(RenderError, match="refuses the messages: no system role") as caught:
        make(tmp_path, template).render(CHAT)
    assert caught.value.reason == "DATASET_UNUSABLE"


def test_templates_run_in_a_sandbox(tmp_path):
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(RenderError, match="fails"):
        make(tmp_path, template).render(CHAT)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json cannot be read"),
        (lambda d: (d / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
        (lambda d: (d / "tokenizer_config.json").write_text("{"), "tokenizer_config.json is not JSON"),
        (lambda d: (d / "chat_template.jinja").unlink(), "no chat template"),
        (lambda d: (d / "chat_template.jinja").write_text("{% for %}"), "does not compile"),
    ],
)
def test_a_broken_directory_is_named(tmp_path, break_it, says):
    directory = make_tiny_model(tmp_path / "broken")
    break_it(directory)
    with pytest.raises(RenderError, match=says) as caught:
        Renderer.from_directory(directory).check()
    assert "broken" in caught.value.message


def test_rendering_loads_neither_torch_nor_transformers(renderer):
    code = "import sys, services.common.rendering; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_turn_of_weight_0_is_context_and_carries_no_loss(renderer):
    weighted = [
        message | {"weight": weight} if message["role"] == "assistant" else message
        for message, weight in zip(CHAT, (1, 1, 0, 1, 1), strict=True)
    ]
    rendered, plain = renderer.render(weighted), renderer.render(CHAT)
    assert rendered.token_ids == plain.token_ids
    assert trained_text(renderer, rendered) == trained_text(renderer, plain)[1:]


def test_an_example_whose_every_turn_has_weight_0_trains_nothing(renderer):
    silent = [message | {"weight": 0} if message["role"] == "assistant" else message for message in CHAT]
    assert not any(renderer.render(silent).loss_mask)
