"""One rendering instead of one per answer: only for templates that cannot tell the difference, and with the same result."""

import pytest
from chat_families import FAMILIES, make_family_model
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.rendering import Renderer, RenderError
from services.common.rendering.conversation import conversation
from services.common.rendering.template import ChatTemplate

TALK = [
    {"role": "user", "content": "ab"},
    {"role": "assistant", "content": "cde"},
    {"role": "user", "content": "f"},
    {"role": "assistant", "content": "g"},
]
TAKEN = conversation(TALK, None, developer="system")
STRAIGHT = {
    "a loop": "{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "the first message": "{% if messages[0].role == 'system' %}s{% endif %}{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "what the loop has seen": "{% for m in messages %}{{ loop.index }}{{ loop.first }}{{ loop.previtem is defined }}{% endfor %}",
    "another name": "{% set talk = messages %}{% for m in talk %}<{{ m.content }}>{% endfor %}",
    "an end behind the loop": "{% for m in messages %}<{{ m.content }}>{% endfor %}end",
    "attributes called last": "{% for m in messages %}<{{ m.content }}{{ m.last }}{{ m.length }}>{% endfor %}",
}
LOOKING_AHEAD = {
    "loop.last": "{% for m in messages %}<{{ m.content }}{{ loop.last }}>{% endfor %}",
    "loop['last']": "{% for m in messages %}<{{ m.content }}{{ loop['last'] }}>{% endfor %}",
    "loop.length": "{% for m in messages %}<{{ m.content }}{{ loop.length }}>{% endfor %}",
    "loop.nextitem": "{% for m in messages %}<{{ m.content }}{{ loop.nextitem is defined }}>{% endfor %}",
    "loop.revindex": "{% for m in messages %}<{{ loop.revindex }}{{ loop.revindex0 }}>{% endfor %}",
    "the number of messages": "{{ messages | length }}{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "the last message": "{% for m in messages %}<{{ m.content }}{{ messages[-1].role }}>{% endfor %}",
    "the last filter": "{% for m in messages %}<{{ (messages | last).content }}>{% endfor %}",
    "another message": "{% for m in messages %}<{{ messages[1].content }}>{% endfor %}",
    "a slice": "{% for m in messages[1:] %}<{{ m.content }}>{% endfor %}",
    "a second loop": "{% for m in messages %}{% endfor %}{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "a loop that is left": "{% for m in messages %}<{{ m.content }}>{% if m.content == 'f' %}{% break %}{% endif %}{% endfor %}",
    "a loop that writes nothing": "{% for m in messages %}{% if loop.first %}x{% endif %}{% endfor %}",
    "a loop in a block": "{% set b %}{% for m in messages %}<{{ m.content }}>{% endfor %}{% endset %}{{ b }}",
    "no loop": "{{ messages[0].content }}",
    "a namespace": "{% set n = namespace(x=0) %}{% for m in messages %}{% set n.x = 1 %}<{{ m.content }}>{% endfor %}{{ n.x }}",
    "tests that swallow": "{{ messages is sequence }}{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "comparisons": "{{ messages == [] }}{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "membership": "{{ 1 in messages }}{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "the messages as text": "{% for m in messages %}<{{ m.content }}>{% endfor %}{{ messages }}",
    "the messages as JSON": "{% for m in messages %}<{{ m.content }}>{% endfor %}{{ messages | tojson }}",
    "sums": "{% for m in messages + messages %}<{{ m.content }}>{% endfor %}",
    "selections": "{% for m in messages %}<{{ m.content }}{{ messages | selectattr('role') | list }}>{% endfor %}",
    "refusals": "{% for m in messages %}{{ raise_exception('no') }}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("name", STRAIGHT)
def test_templates_that_go_straight_are_traced(name):
    template = ChatTemplate(STRAIGHT[name], {})
    traced = template.traced(TAKEN, add_generation_prompt=False)
    assert traced is not None
    assert traced.text == template.text(TAKEN, add_generation_prompt=False)
    for count in range(1, len(TALK)):
        assert template.text(TAKEN.first(count), add_generation_prompt=False).startswith(traced.text[: traced.begins[count]])


@pytest.mark.parametrize("name", LOOKING_AHEAD)
def test_templates_that_look_ahead_are_not(name):
    assert ChatTemplate(LOOKING_AHEAD[name], {}).traced(TAKEN, add_generation_prompt=False) is None


def test_an_untraced_rendering_after_a_traced_one_may_look_ahead():
    template = ChatTemplate(LOOKING_AHEAD["loop.last"], {})
    assert template.traced(TAKEN, add_generation_prompt=False) is None
    assert template.text(TAKEN, add_generation_prompt=False) == "<abFalse><cdeFalse><fFalse><gTrue>"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {name: make_family_model(root / name, family) for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", ["smollm2", "llama3", "gemma", "phi3"])
def test_these_families_go_straight(models, name):
    assert Renderer.from_directory(models[name])._template.traced(TAKEN, add_generation_prompt=True) is not None


ROLES = st.sampled_from(["system", "user", "assistant"])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=6), "weight": st.sampled_from([0, 1])}),
    min_size=1,
    max_size=8,
)


def outcome(renderer, messages):
    try:
        return renderer.render(messages)
    except RenderError as error:
        return error.reason


@given(MESSAGES, st.sampled_from(sorted(FAMILIES)))
@settings(max_examples=200, deadline=None)
def test_with_and_without_the_trace_the_result_is_the_same(models, messages, name):
    renderer, plain = Renderer.from_directory(models[name]), Renderer.from_directory(models[name])
    plain._template.traced = lambda taken, *, add_generation_prompt: None
    assert outcome(renderer, messages) == outcome(plain, messages)
