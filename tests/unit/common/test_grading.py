"""Templates, expressions, labels and the check of graders."""

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.grading import checks, template
from services.common.grading.arithmetic import BadExpression, Expression
from services.common.grading.conversion import graders_from_proto, sampling_from_proto
from services.common.grading.grade import NotGraded, grade, scale
from services.common.grading.graders import Multi, Python, ScoreModel, StringCheck, TextSimilarity, Turn, Unknown, asking
from services.common.grading.sampling import Sampling
from services.common.grading.template import MissingReference
from tunesmith.v1 import grader_pb2, sampling_pb2

FOREIGN = {"größe": "5 m", "城市": [{"naïve-x": "Bern"}]}
VALUES = {
    "item": {"city": "Bern", "messages": [{"content": "first"}], "n": 3, "parts": {"a": [1, "zwei"]}, **FOREIGN},
    "sample": {"output_text": "{{item.city}}", "output_json": {"intent": "refund"}},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no reference", "no reference"),
        ("{{item.city}}!", "Bern!"),
        ("{{ item.city }}", "Bern"),
        ("{{item.messages.0.content}}", "first"),
        ("{{item.n}} {{item.parts}}", '3 {"a": [1, "zwei"]}'),
        ("{{item.parts.a.1}}", "zwei"),
        ("{{item.parts.a[1]}}", "zwei"),
        ("{{ item.messages[0].content }}", "first"),
        ("{{sample.output_json.intent}}", "refund"),
        ("{single} }} {", "{single} }} {"),
        ("{{item.größe}} {{ item.城市[0].naïve-x }}", "5 m Bern"),
    ],
)
def test_references_are_replaced(text: str, expected: str) -> None:
    assert template.problems(text) == []
    assert template.render(text, VALUES) == expected


def test_an_answer_cannot_smuggle_a_reference_in() -> None:
    assert template.render("{{sample.output_text}}", VALUES) == "{{item.city}}"


@pytest.mark.parametrize("text", ["{{item.street}}", "{{item.messages.1}}", "{{item.city[0]}}", "{{item.messages.x}}"])
def test_what_a_row_does_not_have_is_named(text: str) -> None:
    with pytest.raises(MissingReference, match=r"the row has no item\."):
        template.render(text, VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "{{item}}",
        "{{}}",
        "{{other.x}}",
        "{{item.x|upper}}",
        "{{item.x()}}",
        "{{item['x']}}",
        "{{item[0]}}",
        "{{item.x[]}}",
        "{{item.x[-1]}}",
        "{{sample.secret}}",
        "{{a\nb}}",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    assert len(template.problems(text)) == 1


@given(st.text())
@settings(deadline=None)
def test_a_text_without_problems_renders_or_names_what_is_missing(text: str) -> None:
    if not template.problems(text):
        with contextlib.suppress(MissingReference):
            assert isinstance(template.render(text, VALUES), str)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("a + 2 * b", 2.5),
        ("-(a - 1) / 2", 0.25),
        ("2 ** 3 ** 2", 512),
        ("2 ^ 3 ^ 2 - -b ^ 2", 513),
        ("2 * a ^ 2", 0.5),
        ("min(a, b, 0.2) + max(1, b)", 1.2),
        ("abs(-a) + floor(1.9) + ceil(0.1) + sqrt(4) + exp(0) + log(1)", 5.5),
        ("min(a)", 0.5),
    ],
)
def test_expressions(text: str, value: float) -> None:
    expression = Expression(text)
    assert expression.names <= {"a", "b"}
    assert expression.value({"a": 0.5, "b": 1.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a if b else 1",
        "__import__('os')",
        "a.real",
        "a[0]",
        "'x'",
        "True",
        "1j",
        "a == b",
        "a // b",
        "a ^^ b",
        "a | b",
        "a % b",
        "a << 2",
        "min()",
        "min(*a)",
        "max(a, key=b)",
        "sum(a, b)",
        "lambda: 1",
        "[a]",
        "(a := 1)",
        "a" * 501,
        "(" * 250 + "1" + ")" * 249,
    ],
)
def test_everything_else_of_python_is_refused(text: str) -> None:
    with pytest.raises(BadExpression):
        Expression(text)


@pytest.mark.parametrize("text", ["1 / a", "9 ** 9 ** 9", "sqrt(-1)", "log(0)", "(-8) ** 0.5", "exp(1000)", "1e308 * 10"])
def test_an_expression_without_a_value_says_so(text: str) -> None:
    with pytest.raises(BadExpression, match="the expression has no"):
        Expression(text).value({"a": 0.0})


@given(st.text(max_size=60))
@settings(deadline=None)
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(BadExpression, KeyError):
        assert isinstance(Expression(text).value(dict.fromkeys("abc", 1.0)), float)


GOOD = (
    StringCheck("eq", "{{sample.output_text}}", "{{item.reference}}", "EQ"),
    TextSimilarity("alike", "{{sample.output_text}}", "{{item.reference}}", "ROUGE_L", 0.5),
    ScoreModel("judge", "smollm2", (Turn("user", "Rate {{sample.output_text}}"),), 1, 10, 5),
    Multi("both", (StringCheck("a", "x", "y", "LIKE"), ScoreModel("b", "m", (Turn("user", "x"),))), "0.5 * a + b / 2"),
)


def test_sensible_graders_pass() -> None:
    assert list(checks.violations(GOOD, "graders")) == []
    assert [grader.name for grader in asking(GOOD)] == ["judge", "b"]


TURN = (Turn("user", "x"),)


def labelled(**changes) -> ScoreModel:
    """A grader that asks for a label."""
    return ScoreModel("a", "m", TURN, **{"labels": ("good", "bad"), "passing_labels": ("good",), **changes})


@pytest.mark.parametrize(
    ("answer", "number"),
    [("good", 1.0), (" good\n", 1.0), ("very (good)?", 1.0), ("bad", 0.0)],
    ids=["", "spaces", "signs", "bad"],
)
def test_a_label_lets_an_answer_pass_or_not(answer: str, number: float) -> None:
    judge = labelled(labels=("good", "bad", "very (good)?"), passing_labels=("good", "very (good)?"))
    assert grade(judge, {}, lambda _: answer) == number
    assert (scale(judge).lowest, scale(judge).is_share, scale(judge).passes(number)) == (0.0, True, number == 1.0)


@pytest.mark.parametrize("answer", ["", "goo", "Good", "good bad", "1"])
def test_what_is_no_label_is_not_graded(answer: str) -> None:
    with pytest.raises(NotGraded, match="none of the labels"):
        grade(labelled(), {}, lambda _: answer)


def test_the_answer_of_a_judge_with_labels_matches_them_and_nothing_else() -> None:
    judge = labelled(labels=("good", "very (good)?", "50 %"))
    matching = [text for text in (*judge.labels, "very good", "50", "goods", "") if re.fullmatch(judge.answer_regex, text)]
    assert (matching, labelled(labels=()).answer_regex) == (list(judge.labels), "")


def test_few_and_many_labels_pass() -> None:
    for count in (2, 32):
        labels = ("good", "x" * 64, *map(str, range(30)))[:count]
        assert list(checks.violations([labelled(labels=labels, passing_labels=labels)], "graders")) == []


@pytest.mark.parametrize(
    ("grader", "field", "words"),
    [
        (StringCheck("Eq", "", "", "EQ"), "graders[0].name", "does not match"),
        (StringCheck("f1", "", "", "EQ"), "graders[0].name", "taken"),
        (StringCheck("a", "{{x}}", "", "EQ"), "graders[0].string_check.input", "no reference"),
        (StringCheck("a", "", "x" * 10_001, "EQ"), "graders[0].string_check.reference", "more than"),
        (StringCheck("a", "", "", ""), "graders[0].string_check.operation", "required"),
        (TextSimilarity("a", "", "", ""), "graders[0].text_similarity.metric", "required"),
        (TextSimilarity("a", "", "", "METEOR"), "graders[0].text_similarity.metric", "synonyms"),
        (TextSimilarity("a", "", "", "COSINE"), "graders[0].text_similarity.metric", "vectors"),
        (TextSimilarity("a", "", "", "F1", 1.5), "graders[0].text_similarity.pass_threshold", "between"),
        (ScoreModel("a", "", TURN), "graders[0].score_model.model", "required"),
        (ScoreModel("a", "m", ()), "graders[0].score_model.input", "turns"),
        (ScoreModel("a", "m", (Turn("tool", "x"), *TURN)), "graders[0].score_model.input[0].role", "none of"),
        (ScoreModel("a", "m", (Turn("assistant", "x"),)), "graders[0].score_model.input[0].role", "assistant"),
        (ScoreModel("a", "m", (Turn("user", "{{y}}"),)), "graders[0].score_model.input[0].content", "reference"),
        (ScoreModel("a", "m", TURN, 1, 1), "graders[0].score_model.range_max", "not more than"),
        (ScoreModel("a", "m", TURN, 0, float("nan")), "graders[0].score_model.range_max", "not more than"),
        (ScoreModel("a", "m", TURN, 0, float("inf")), "graders[0].score_model.range_max", "finite"),
        (ScoreModel("a", "m", TURN, float("-inf"), 1), "graders[0].score_model.range_max", "finite"),
        (ScoreModel("a", "m", TURN, max_tokens=0), "graders[0].score_model.max_tokens", "between"),
        (ScoreModel("a", "m", TURN, 1, 2, 0.5), "graders[0].score_model.pass_threshold", "between"),
        (labelled(labels=("a",)), "graders[0].score_model.labels", "2 to 32"),
        (labelled(labels=("good", "good")), "graders[0].score_model.labels", "different"),
        (labelled(labels=("good", *map(str, range(32)))), "graders[0].score_model.labels", "2 to 32"),
        (labelled(labels=("good", "")), "graders[0].score_model.labels[1]", "1 to 64"),
        (labelled(labels=("good", "x" * 65)), "graders[0].score_model.labels[1]", "1 to 64"),
        (labelled(labels=("good", " bad")), "graders[0].score_model.labels[1]", "without spaces"),
        (labelled(labels=("good", "b\nad")), "graders[0].score_model.labels[1]", "one line"),
        (labelled(passing_labels=()), "graders[0].score_model.passing_labels", "required"),
        (labelled(passing_labels=("good", "best")), "graders[0].score_model.passing_labels[1]", "none of the labels"),
        (labelled(labels=()), "graders[0].score_model.passing_labels[0]", "none of the labels"),
        (labelled(range_max=5), "graders[0].score_model.labels", "no range"),
        (labelled(pass_threshold=1.0), "graders[0].score_model.labels", "no pass_threshold"),
        (Multi("a", (), "1"), "graders[0].multi.graders", "between"),
        (Multi("a", (GOOD[0],), "eq +"), "graders[0].multi.calculate_output", "no expression"),
        (Multi("a", (GOOD[0],), "eq + other"), "graders[0].multi.calculate_output", "other"),
        (Multi("a", (StringCheck("min", "", "", "EQ"),), "1"), "graders[0].multi.graders[0].name", "taken"),
        (Multi("a", (Multi("b", (GOOD[0],), "eq"),), "b"), "graders[0].multi.graders[0]", "other kinds"),
        (Multi("a", (Python("b"),), "b"), "graders[0].multi.graders[0].python", "not run"),
        (Python("a"), "graders[0].python", "not run"),
        (Unknown("a"), "graders[0]", "no kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_named_by_its_field(grader: checks.Grader, field: str, words: str) -> None:
    found = list(checks.violations([grader], "graders"))
    assert [(violation.field, words in violation.description) for violation in found if violation.field == field] == [
        (field, True)
    ]


def test_names_are_unique_and_graders_not_too_many() -> None:
    twice = [StringCheck("a", "", "", "EQ")] * 17
    found = list(checks.violations(twice, "graders"))
    assert "17 graders are more than 16" in found[0].description
    assert sum("taken" in violation.description for violation in found) == 16


def test_messages_become_values_with_their_defaults() -> None:
    given = [
        grader_pb2.Grader(name="eq", string_check=grader_pb2.StringCheck(operation="EQ")),
        grader_pb2.Grader(name="alike", text_similarity=grader_pb2.TextSimilarity(metric="BLEU", pass_threshold=0)),
        grader_pb2.Grader(name="judge", score_model=grader_pb2.ScoreModel(model="m", input=[{"role": "user", "content": "x"}])),
        grader_pb2.Grader(name="named", score_model={"model": "m", "labels": ["good", "bad"], "passing_labels": ["good"]}),
        grader_pb2.Grader(name="code", python=grader_pb2.PythonGrader(source="1")),
        grader_pb2.Grader(name="none"),
    ]
    both = grader_pb2.MultiGrader(graders=given[:1], calculate_output="eq")
    assert graders_from_proto([*given, grader_pb2.Grader(name="both", multi=both)]) == (
        StringCheck("eq", "{{sample.said}}", "{{item.reference}}", "EQ"),
        TextSimilarity("alike", "{{sample.said}}", "{{item.reference}}", "BLEU", 0.0),
        ScoreModel("judge", "m", TURN),
        ScoreModel("named", "m", (), labels=("good", "bad"), passing_labels=("good",)),
        Python("code"),
        Unknown("none"),
        Multi("both", (StringCheck("eq", "{{sample.said}}", "{{item.reference}}", "EQ"),), "eq"),
    )
    unknown = grader_pb2.Grader(name="later", string_check=grader_pb2.StringCheck(operation=99))  # type: ignore[arg-type]
    assert graders_from_proto([unknown])[0] == StringCheck("later", "{{sample.said}}", "{{item.reference}}", "")


def test_sampling_has_its_defaults_and_its_limits() -> None:
    assert sampling_from_proto(sampling_pb2.Sampling()) == Sampling()
    given = sampling_pb2.Sampling(max_tokens=0, temperature=float("nan"), top_p=0, seed=-1, stop=["", "b"])
    fields = [violation.field for violation in sampling_from_proto(given).violations("sampling")]
    assert fields == ["sampling.max_tokens", "sampling.temperature", "sampling.top_p", "sampling.seed", "sampling.stop"]
    assert list(Sampling(1, 2.0, 1.0, 0, ("a",) * 4).violations("sampling")) == []
