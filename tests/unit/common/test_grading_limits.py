"""Where the check of graders tips from right to wrong, and what single grades are."""

import dataclasses
from typing import Any

import pytest

from services.common.grading import checks, template
from services.common.grading.arithmetic import LONGEST, BadExpression, Expression
from services.common.grading.conversion import graders_from_proto, sampling_from_proto
from services.common.grading.grade import NotGraded, grade, number_in, sample_values, scale, score, template_values
from services.common.grading.graders import Grader, Multi, ScoreModel, StringCheck, TextSimilarity, Turn, asking
from services.common.grading.sampling import Sampling
from services.common.grading.template import MissingReference
from services.common.grading.words import json_value, normalised, words
from tunesmith.v1 import grader_pb2, sampling_pb2

CHECK = StringCheck("a", "", "", "EQ")
JUDGE = ScoreModel("a", "m", (Turn("user", "x"),))
MULTI = Multi("a", (CHECK,), "a")
SIMILAR = TextSimilarity("a", "", "", "F1")


def fields(*graders: Grader) -> list[str]:
    return [violation.field.removeprefix("graders") for violation in checks.violations(graders, "graders")]


def named(count: int) -> tuple[StringCheck, ...]:
    return tuple(dataclasses.replace(CHECK, name=f"n{number}") for number in range(count))


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"name": "a" * 40}, True),
        ({"name": "a" * 41}, False),
        ({"name": "a_1"}, True),
        ({"name": "1a"}, False),
        ({"name": "_a"}, False),
        ({"name": "a-b"}, False),
        ({"name": "a\n"}, False),
        ({"name": ""}, False),
        ({"input": "x" * 10_000}, True),
        ({"input": "x" * 10_001}, False),
        ({"reference": "{{item.a.b-c.0}}"}, True),
        ({"reference": "{{item.}}"}, False),
        ({"operation": ""}, False),
    ],
    ids=lambda value: None if isinstance(value, bool) else next(f"{k}={str(v)[:8]}-{len(v)}" for k, v in value.items()),
)
def test_a_check_has_a_name_and_texts_within_limits(changes: dict[str, Any], accepted: bool) -> None:
    assert (fields(dataclasses.replace(CHECK, **changes)) == []) is accepted


@pytest.mark.parametrize("name", checks.BUILT_IN)
def test_names_of_what_is_measured_anyway_are_taken(name: str) -> None:
    assert fields(dataclasses.replace(CHECK, name=name)) == ["[0].name"]
    # Inside another one they are free.
    assert fields(Multi("outer", (dataclasses.replace(CHECK, name=name),), name)) == []


def test_perplexity_is_measured_anyway() -> None:
    assert "perplexity" in checks.BUILT_IN


@pytest.mark.parametrize(("count", "accepted"), [(0, True), (16, True), (17, False)])
def test_how_many_graders(count: int, accepted: bool) -> None:
    assert (fields(*named(count)) == []) is accepted


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"input": (Turn("user", "x"),) * 16}, []),
        ({"input": (Turn("user", "x"),) * 17}, ["[0].score_model.input"]),
        ({"input": (Turn("assistant", "x"), Turn("user", "y"))}, []),
        ({"input": (Turn("system", "x"),)}, []),
        ({"max_tokens": 1}, []),
        ({"max_tokens": 1024}, []),
        ({"max_tokens": 1025}, ["[0].score_model.max_tokens"]),
        ({"range_min": -1.0, "range_max": -0.5}, []),
        ({"range_min": 1.0}, ["[0].score_model.range_max"]),
        ({"pass_threshold": 0.0}, []),
        ({"pass_threshold": 1.0}, []),
        ({"pass_threshold": -0.001}, ["[0].score_model.pass_threshold"]),
        ({"pass_threshold": 1.001}, ["[0].score_model.pass_threshold"]),
    ],
    ids=[
        *("most turns", "too many turns", "assistant before", "system alone", "least tokens", "most tokens", "too many tokens"),
        *("below 0", "no range", "lowest", "highest", "below the range", "above the range"),
    ],
)
def test_what_a_judge_is_given(changes: dict[str, Any], wrong: list[str]) -> None:
    assert fields(dataclasses.replace(JUDGE, **changes)) == wrong


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"graders": named(8), "calculate_output": "n0 + n7"}, []),
        ({"graders": named(9), "calculate_output": "n0"}, ["[0].multi.graders"]),
        ({"graders": (CHECK, CHECK)}, ["[0].multi.graders[1].name"]),
        ({"calculate_output": "1"}, []),
        ({"calculate_output": ""}, ["[0].multi.calculate_output"]),
        ({"calculate_output": "a + b + c"}, ["[0].multi.calculate_output"]),
        ({"pass_threshold": 9.0}, []),
        (
            {"graders": (dataclasses.replace(SIMILAR, pass_threshold=2.0),)},
            ["[0].multi.graders[0].text_similarity.pass_threshold"],
        ),
    ],
    ids=["most", "too many", "name twice", "number alone", "empty", "unknown names", "any threshold", "wrong inside"],
)
def test_what_is_combined(changes: dict[str, Any], wrong: list[str]) -> None:
    assert fields(dataclasses.replace(MULTI, **changes)) == wrong


def test_unknown_names_are_told_in_order() -> None:
    (found,) = checks.violations([dataclasses.replace(MULTI, calculate_output="z + a + b")], "graders")
    assert found.description == "no grader is called b, z"


def test_judges_are_found_wherever_they_stand() -> None:
    inner, outer = dataclasses.replace(JUDGE, name="in"), dataclasses.replace(JUDGE, name="out")
    assert asking((CHECK, Multi("m", (inner, CHECK), "in"), outer, SIMILAR)) == (inner, outer)
    assert asking((CHECK, SIMILAR)) == ()


@pytest.mark.parametrize(("length", "accepted"), [(LONGEST, True), (LONGEST + 1, False)])
def test_how_long_a_formula_is(length: int, accepted: bool) -> None:
    text = "1+" * ((length - 1) // 2) + "1" * (1 + (length - 1) % 2)
    assert len(text) == length
    if accepted:
        assert Expression(text).names == frozenset()
    else:
        with pytest.raises(BadExpression, match="501 characters are more than 500"):
            Expression(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("7 - 2 - 1", 4), ("2 * 3 - 1", 5), ("8 / 2 / 2", 2), ("+a", 0.5), ("-2 ** 2", -4), ("max(a, 0.25)", 0.5), ("1e3", 1000)],
)
def test_formulas_are_read_as_python_reads_them(text: str, value: float) -> None:
    assert Expression(text).value({"a": 0.5}) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("between 3 and 9", 3),
        ("+4", 4),
        ("-4", -4),
        ("4.5.6", 4.5),
        ("x3 5", 5),
        ("3x 5", 5),
        ("1e3", None),
        ("1e-3", None),
        ("1e-3 or 2", 2),
        ("0.9pts", None),
        ("0.25x 3", 3),
        ("10/10", 10),
        ("99", 10),
        ("-99", -5),
        ("five", None),
    ],
)
def test_the_first_number_that_stands_by_itself(text: str, number: float | None) -> None:
    if number is None:
        with pytest.raises(NotGraded):
            number_in(text, -5, 10)
    else:
        assert number_in(text, -5, 10) == number


def test_a_long_answer_without_a_number_is_told_in_short() -> None:
    with pytest.raises(NotGraded) as caught:
        number_in("x" * 10_000, 0, 1)
    assert len(str(caught.value)) < 120


VALUES = template_values({"city": "Bern"}, "p", "r", sample_values("said"))


def test_the_reason_stays_as_it_is_for_those_who_want_it() -> None:
    missing = StringCheck("a", "{{item.street}}", "", "EQ")
    with pytest.raises(MissingReference):
        score(missing, VALUES, lambda _: None)
    with pytest.raises(NotGraded, match=r"the row has no item\.street"):
        grade(missing, VALUES, lambda _: None)


def test_a_judge_of_several_is_asked_itself() -> None:
    asked = []

    def judged(judge: ScoreModel) -> str:
        asked.append(judge.name)
        return "0.25"

    first, second = (dataclasses.replace(JUDGE, name=name) for name in ("x", "y"))
    assert grade(Multi("m", (first, second), "x + 2 * y"), VALUES, judged) == 0.75
    assert asked == ["x", "y"]


def test_similarity_compares_what_its_texts_say() -> None:
    alike = TextSimilarity("a", "in {{item.city}}", "{{sample.output_text}} Bern", "ROUGE_1")
    assert grade(alike, VALUES, lambda _: None) == 0.5


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("plain", None), ('{"a": 1}', {"a": 1}), ("[1, 2]", [1, 2]), ("null", None), ("0", 0), ('"x"', "x"), ("NaN", None)],
    ids=["text", "object", "list", "null", "zero", "word", "no json"],
)
def test_an_answer_has_parts_when_it_is_json(answer: str, expected: Any) -> None:
    found = sample_values(answer)
    assert found["output_text"] == answer
    assert found.get("output_json") == expected
    assert ("output_json" in found) == (expected is not None)


def test_calls_of_an_answer_have_parts() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "lamp", "arguments": "{}"}}]
    values = template_values({}, "p", "r", sample_values("words", calls, "words and calls"))
    for name in ("{{sample.output_tools.0.function.name}}", "{{ sample.output_tools[0].function.name }}"):
        assert template.problems(name) == []
        assert template.render(name, values) == "lamp"
    assert template.render("{{sample.output_text}}, {{sample.said}}", values) == "words, words and calls"
    assert template.render("{{sample.output_tools}} {{sample.said}}", {"sample": sample_values("words")}) == "[] words"
    (problem,) = template.problems("{{sample.tools}}")
    assert problem.endswith("a sample has only output_text, output_json, output_tools, choices, said")


def test_an_answer_is_a_choice_as_chats_have_it() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "lamp", "arguments": "{}"}}]
    values = {"sample": sample_values("words", calls, "both", "tool_calls")}
    text = "{{sample.choices[0].message.content}} {{ sample.choices.0.message.tool_calls[0].function.name }}"
    ending = "{{sample.choices[0].message.role}} {{sample.choices[0].finish_reason}} {{sample.choices[0].index}}"
    assert template.problems(text + ending) == []
    assert template.render(text, values) == "words lamp"
    assert template.render(ending, values) == "assistant tool_calls 0"
    with pytest.raises(MissingReference):
        template.render("{{sample.choices[0].message.tool_calls}}", {"sample": sample_values("words")})
    with pytest.raises(MissingReference):
        template.render("{{sample.choices[1].message.content}}", values)


def test_half_a_character_that_an_answer_spells_in_json_can_be_asked_about() -> None:
    values = {"sample": sample_values('{"a": "x\\ud83d", "b": ["\\udc00"]}')}
    assert values["sample"]["output_json"]["a"] == "x\ud83d"
    rendered = template.render("{{sample.output_json.a}} {{sample.output_json.b}}", values)
    assert (rendered, rendered.encode().decode()) == ('x\\ud83d ["\\udc00"]', rendered)


def test_json_of_an_answer_is_that_of_its_text_and_never_of_its_calls() -> None:
    said = '[{"arguments": {}, "name": "lamp"}]'
    assert "output_json" not in sample_values("", [{"function": {"name": "lamp", "arguments": "{}"}}], said)


def test_shares_are_told_from_other_numbers() -> None:
    assert scale(JUDGE).is_share
    assert not scale(dataclasses.replace(JUDGE, range_max=2.0)).is_share
    assert not scale(dataclasses.replace(JUDGE, range_min=0.5)).is_share
    assert not scale(MULTI).is_share


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'Yes!'", "yes"),
        ("\tYes.\r\n", "yes"),
        ("a.b", "a.b"),
        ("ﬁne", "fine"),
        ("Straße", "strasse"),
        ('[2, {"b": 1, "a": 2}]', '[2, {"a": 2, "b": 1}]'),
        ('{"A": 1}', '{"A": 1}'),
        ("5", "5"),
    ],
)
def test_texts_that_say_the_same_are_the_same(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words("ＡＢ１ ねこ猫a") == ["ab1", "ね", "こ", "猫", "a"]
    assert words("snake_case don't") == ["snake_case", "don", "t"]
    assert words(" .!") == [".!"]


@pytest.mark.parametrize("text", ["Infinity", "-Infinity", "[NaN]", "{", "'a'", "[" * 50_000], ids=lambda text: text[:10])
def test_what_is_not_json_has_no_value(text: str) -> None:
    assert json_value(text) is None


def test_ranges_and_thresholds_of_messages_keep_zero_apart_from_nothing() -> None:
    judge = grader_pb2.ScoreModel(model="m", range_min=-1, range_max=0, pass_threshold=0, max_tokens=5)
    (found,) = graders_from_proto([grader_pb2.Grader(name="j", score_model=judge)])
    assert found == ScoreModel("j", "m", (), -1.0, 0.0, 0.0, 5)
    (plain,) = graders_from_proto([grader_pb2.Grader(name="j", score_model=grader_pb2.ScoreModel(model="m"))])
    assert plain == ScoreModel("j", "m", (), 0.0, 1.0, None, 64)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (Sampling(1, 0.0, 0.001, 0), []),
        (Sampling(32_768, 2.0, 1.0, 2**31 - 1), []),
        (Sampling(max_tokens=32_769), ["s.max_tokens"]),
        (Sampling(temperature=-0.1), ["s.temperature"]),
        (Sampling(temperature=2.1), ["s.temperature"]),
        (Sampling(top_p=0.0), ["s.top_p"]),
        (Sampling(top_p=1.1), ["s.top_p"]),
        (Sampling(seed=2**31), ["s.seed"]),
        (Sampling(stop=("a",) * 5), ["s.stop"]),
        (Sampling(stop=("",)), ["s.stop"]),
    ],
    ids=["least", "most", "tokens", "cold", "hot", "no mass", "too much mass", "seed", "stops", "empty stop"],
)
def test_sampling_within_its_limits(given: Sampling, wrong: list[str]) -> None:
    assert [violation.field for violation in given.violations("s")] == wrong


def test_sampling_keeps_zero_apart_from_nothing() -> None:
    given = sampling_pb2.Sampling(temperature=0, seed=0, top_p=0.5)
    assert sampling_from_proto(given) == Sampling(256, 0.0, 0.5, 0)
