"""Templates from strangers: each way to take more time or memory than honest work ends in an error that names it."""

import time

import pytest

from services.common.rendering import RenderError, budget
from services.common.rendering.conversation import conversation
from services.common.rendering.template import ChatTemplate

MESSAGES = [{"role": "user", "content": "abc"}, {"role": "assistant", "content": "defg"}]
TALK = conversation(MESSAGES, None, developer="system")

BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop with a condition": "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}",
    "a long range": "{% for a in range(10 ** 9) %}x{% endfor %}",
    "static text in loops": "{% for a in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "static text in a set block": "{% set b %}{% for a in range(99999) %}" + "x" * 1000 + "{% endfor %}{% endset %}",
    "repeated text": "{{ 'x' * 10 ** 10 }}",
    "repeated text, turned round": "{{ 10 ** 10 * 'x' }}",
    "a repeated list": "{{ [0] * 10 ** 10 }}",
    "text doubled by +": "{% set n = namespace(t='xx') %}{% for i in range(64) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "text doubled by ~": "{% set n = namespace(t='xx') %}{% for i in range(64) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "a list doubled": "{% set n = namespace(t=[0, 1]) %}{% for i in range(64) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "text doubled in blocks": (
        "{% set n = namespace(t='xx') %}"
        "{% for i in range(64) %}{% set t %}{{ n.t }}{{ n.t }}{% endset %}{% set n.t = t %}{% endfor %}"
    ),
    "text doubled by macros": (
        "{% macro twice(t) %}{{ t }}{{ t }}{% endmacro %}{% set n = namespace(t='xx') %}"
        "{% for i in range(64) %}{% set n.t = twice(n.t) %}{% endfor %}"
    ),
    "a list of itself": (
        "{% set n = namespace(t=['x']) %}{% for i in range(60) %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.t }}"
    ),
    "a value of endless levels": (
        "{% set n = namespace(t='x') %}{% for i in range(900) %}{% set n.t = [n.t] %}{% endfor %}{{ n.t | tojson }}"
    ),
    "a wide format": "{{ '%999999999d' % 1 }}",
    "a wide format by argument": "{{ '%*d' % (999999999, 1) }}",
    "a wide str.format": "{{ '{:>999999999}'.format('x') }}",
    "a wide str.format by argument": "{{ '{:>{w}}'.format('x', w=999999999) }}",
    "many fields": "{{ ('%s' * 9999) % (['x' * 9999] * 9999) }}",
    "fields of str.format": "{% set t = 'x' * 999999 %}{{ ('{0}' * 9999).format(t) }}",
    "replace": "{% set t = 'x' * 999999 %}{{ t.replace('x', t) }}",
    "the filter replace": "{% set t = 'x' * 999999 %}{{ t | replace('x', t) }}",
    "join": "{% set t = 'x' * 999999 %}{{ t.join(range(9999) | map('string') | list) }}",
    "the filter join": "{% set t = 'x' * 999999 %}{{ range(9999) | join(t) }}",
    "indent": "{{ ('\n' * 99999) | indent(99999) }}",
    "tojson's indent": "{{ [1] | tojson(indent=999999999) }}",
    "a wide date": "{{ strftime_now('%999999999Y') }}",
    "lists of a range": "{% set n = namespace() %}{% for i in range(99) %}{% set n.t = [n.t, range(99999) | list] %}{% endfor %}",
    "sorted ranges": "{% set n = namespace() %}{% for i in range(99) %}{% set n.t = [n.t, range(99999) | sort] %}{% endfor %}",
    "huge powers": "{{ 9 ** 9 ** 9 ** 9 }}",
    "growing numbers": "{% set n = namespace(t=9) %}{% for i in range(999) %}{% set n.t = n.t * n.t %}{% endfor %}",
}  # fmt: skip
GONE = {
    "center": "{{ 'x' | center(999999999) }}",
    "ljust": "{{ 'x'.ljust(999999999) }}",
    "expandtabs": "{{ '\t'.expandtabs(999999999) }}",
    "zfill": "{{ 'x'.zfill(999999999) }}",
    "translate": "{{ 'x'.translate({120: 'x' * 9999}) }}",
    "format_map": "{{ '{a}'.format_map({'a': 1}) }}",
    "lipsum": "{{ lipsum(9999) }}",
    "batch": "{{ [1] | batch(999999999, 0) | list }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__.os }}",
    "formats that reach attributes": "{{ '{0.__class__.__mro__}'.format('x') }}",
    "changing the messages": "{{ messages.append(1) }}",
    "other templates": "{% include '/etc/passwd' %}",
}


def render(source):
    return ChatTemplate(source, {}).text(TALK, add_generation_prompt=False)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped_and_named(name):
    with pytest.raises(RenderError, match="the chat template is stopped: it ") as caught:
        render(BOMBS[name])
    assert caught.value.reason == "BASE_MODEL_UNUSABLE"


@pytest.mark.parametrize("name", GONE)
def test_what_no_chat_template_needs_does_not_exist(name):
    with pytest.raises(RenderError, match=r"the chat template (fails|does not compile): "):
        render(GONE[name])


def test_recursion_ends_in_an_error():
    with pytest.raises(RenderError, match="RecursionError"):
        render("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}")


def test_a_macro_that_branches_is_stopped(monkeypatch):
    monkeypatch.setattr(budget, "MAX_STEPS", 10_000)
    source = "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}"
    with pytest.raises(RenderError, match="more than 10,000 steps"):
        render(source)


def test_time_runs_out(monkeypatch):
    clock = iter(range(0, 10**9, 3))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(RenderError, match="longer than 10 seconds"):
        render("{% for i in range(99) %}x{% endfor %}")


def test_a_long_template_is_not_compiled():
    with pytest.raises(RenderError, match="refused: it has 65,537 characters"):
        render("x" * 65537)


def test_recursive_loops_are_refused():
    with pytest.raises(RenderError, match="line 1 has a recursive loop"):
        render("{% for a in [[1]] recursive %}{{ loop(a) }}{% endfor %}")


@pytest.mark.parametrize("source", ["{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{% if a %}" * 500 + "{% endif %}" * 500])
def test_a_template_too_deep_to_compile_is_an_error(source):
    with pytest.raises(RenderError, match="does not compile"):
        render(source)


def test_nothing_is_computed_while_compiling():
    for source in BOMBS.values():
        if "recursive" not in source:
            ChatTemplate(source, {})


def test_the_budget_grows_with_the_messages():
    content = "x" * budget.FREE_CHARACTERS
    talk = conversation([{"role": "user", "content": content}], None, developer="system")
    template = ChatTemplate("{% for m in messages %}{{ '[' + m.role + ']' + m.content + '\n' }}{% endfor %}", {})
    assert template.text(talk, add_generation_prompt=False) == f"[user]{content}\n"


def test_one_rendering_does_not_pay_for_another():
    template = ChatTemplate("{% for i in range(60000) %}x{% endfor %}", {})
    for _ in range(20):
        assert len(template.text(TALK, add_generation_prompt=False)) == 60000


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.length }} {% endfor %}", "0False2 1True2 "),
        ("{% for m in messages %}{{ loop.previtem is defined }}{{ loop.first }} {% endfor %}", "FalseTrue TrueFalse "),
        ("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b=2;"),
        ("{% for x in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "abc"),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13"),
        ("{{ 'a' ~ 1 ~ none ~ true }}", "a1NoneTrue"),
        ("{{ '%s-%d' % ('a', 3) }}{{ '{}:{:>3}'.format('x', 1) }}", "a-3x:  1"),
        ("{{ messages[0].content.replace('b', 'X') | upper }}{{ 'a,b'.split(',') | join('+') }}", "AXCa+b"),
        ("{{ {'a': ['é', '<']} | tojson }}{{ [1] | tojson(indent=2) }}", '{"a": ["é", "<"]}[\n  1\n]'),
        ("{{ 'a\nb' | indent(2) }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ 3 * 4 }}{{ '-' * 3 }}", "a\n  b1024312---"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}{% set b %}{{ m(1) }}{% endset %}{{ b }}", "<a><1>"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}", "['abc']"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
    ],
)  # fmt: skip
def test_what_templates_do_works_as_in_jinja(source, text):
    assert render(source) == text
