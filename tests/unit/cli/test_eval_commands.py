"""`tunesmith eval` and `tunesmith batch`, and the SDK beneath: what is sent, what is shown, how it ends."""

import json

import pytest
from fake_platform import a_run
from google.protobuf import json_format
from typer.testing import CliRunner

from tunesmith import Client
from tunesmith.cli.app import app
from tunesmith.cli.eval_text import print_rows
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.graders import grader
from tunesmith.v1.evaluation_pb2 import EvaluationResult
from tunesmith.v1.generation_pb2 import FailedRow, Generation, GenerationResult
from tunesmith.v1.grader_pb2 import Grader
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

RESULT = {
    "row_count": 20,
    "primary_score": "exact_match",
    "summary": "m0: exact_match 50 % (30 to 70). m1: better by 40 ± 20 points.",
    "models": [
        {
            "model": "baseModels/tiny",
            "answered_count": 20,
            "scores": [{"name": "exact_match", "value": 0.5, "low": 0.3, "high": 0.7, "ungraded_count": 3}],
            "verdict_text": "exact_match 50 % (30 to 70)",
            "latency": {"p50": "0.250s", "p95": "0.400s"},
            "perplexity": {"value": 20.06, "low": 18, "high": 22},
        },
        {
            "model": "artifacts/a",
            "answered_count": 18,
            "failed_count": 2,
            "scores": [{"name": "exact_match", "value": 0.9, "low": 0.75, "high": 1.0, "delta": 0.4}],
            "verdict": "BETTER",
            "verdict_text": "better by 40 ± 20 points",
            "latency": {"p50": "0.500s"},
            "perplexity": {"value": 3.5, "low": 3, "high": 4, "delta": -16.5, "delta_text": "lower by 16.5 ± 2"},
            "preference_text": "the preferred output is the more probable one in 90 % (75 to 100) of the rows",
            "regressed_rows": [2, 1],
            "regressed_count": 2,
            "improved_count": 10,
        },
    ],
    "leaks": [{"model": "artifacts/a", "dataset": "datasets/d", "row_count": 3}],
}


def a_row(number, first, second):
    messages = [{"role": "user", "content": f"question {number}"}]
    answers = [{"model": "baseModels/tiny", "text": "right", "scores": {"exact_match": first}}]
    answers.append({"model": "artifacts/a", "error": {"message": "too\x1b long"}, "scores": {"exact_match": second}})
    return {"row": number, "messages": messages, "reference": "right", "answers": answers}


ROWS = [a_row(1, 1.0, 0.0), a_row(2, 1.0, 0.0), a_row(3, 1.0, 1.0)]


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def evaluated(platform):
    """An evaluation that has succeeded."""
    body = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    artifact = platform.artifacts.add({"rows.jsonl": body, "summary.json": b"{}"})
    result = json_format.ParseDict(RESULT, EvaluationResult())
    spec = TaskSpec()
    spec.evaluation.models[:] = ["baseModels/tiny", "artifacts/a"]
    return platform.tasks.add(Task.SUCCEEDED, spec=spec, artifact=artifact.name, evaluation_result=result)


def test_the_rows_that_got_worse_tell_which_tools_were_called(capsys):
    row = a_row(1, 1.0, 0.0)
    row["answers"][0] |= {"text": "", "tool_calls": [{}], "said": '[{"arguments": {}, "name": "lamp"}]'}
    print_rows([row], [1])
    assert 'baseModels/tiny  [{"arguments": {}, "name": "lamp"}]' in capsys.readouterr().out


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "heldout.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n')
    return path


def test_rows_can_only_be_spread_when_not_all_are_asked(run, platform, questions):
    done = run("eval", "run", "--model", "tiny", "--data", questions, "--spread")
    assert (done.exit_code, platform.tasks.created) == (2, [])


def test_an_evaluation_is_asked_for_with_files_and_the_base_model_by_that_word(run, platform, questions):
    tuned = platform.tasks.add(Task.SUCCEEDED, spec=TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny")))
    check = '{"type": "string_check", "name": "has", "operation": "ilike", "reference": "{{item.reference}}"}'
    done = run(
        *("eval", "run", "--model", "base", "--model", tuned.name, "--data", questions),
        *("--grader", check, "--max-tokens", 8, "--seed", 7, "--system", "Be brief.", "--max-rows", 5, "--spread"),
    )
    assert done.exit_code == 0, done.output
    (request,) = platform.tasks.created
    assert request.task.display_name == "Evaluation on heldout"
    asked = request.task.spec.evaluation
    assert list(asked.models) == ["baseModels/tiny", tuned.name]
    assert asked.dataset == platform.datasets.stored[0].name
    assert (asked.sampling.max_tokens, asked.sampling.seed, asked.max_rows, asked.system_prompt) == (8, 7, 5, "Be brief.")
    assert not asked.sampling.HasField("temperature")
    assert not asked.HasField("perplexity")
    assert asked.spread_rows
    assert not asked.checkpoints
    (sent,) = asked.graders
    assert (sent.name, sent.string_check.reference) == ("has", "{{item.reference}}")
    assert "tunesmith eval show" in done.stderr


def test_checkpoints_are_asked_when_it_is_asked_for(run, platform, questions):
    assert run("eval", "run", "--model", "tiny", "--data", questions, "--checkpoints").exit_code == 0
    assert platform.tasks.created[0].task.spec.evaluation.checkpoints
    given = ("task", "create", "--data", "d", "--eval-data", questions)
    assert run(*given, "--eval-checkpoints").exit_code == run(*given).exit_code == 0
    asked = [created.task.spec.fine_tuning.evaluation_checkpoints for created in platform.tasks.created[1:]]
    assert asked == [True, False]


def test_validation_data_alone_may_be_left_at_the_losses(run, platform, questions):
    given = ("task", "create", "--data", "d", "--validation-data", questions)
    assert run(*given, "--no-eval").exit_code == run(*given).exit_code == 0
    assert [created.task.spec.fine_tuning.skip_evaluation for created in platform.tasks.created] == [True, False]


def test_steps_and_the_best_checkpoint_are_shown_and_shared_data_is_told_once(run, platform):
    steps = [{**RESULT["models"][1], "model": f"artifacts/{step}", "step": step} for step in (5, 10, 15)]
    best = {"model": "artifacts/10", "step": 10, "text": "artifacts/10 (step 10) does best with exact_match 90 %"}
    leaks = [{"model": each["model"], "dataset": "datasets/d", "row_count": 3} for each in steps]
    found = RESULT | {"models": [RESULT["models"][0], *steps], "best": best, "leaks": leaks}
    task = platform.tasks.add(Task.SUCCEEDED, evaluation_result=json_format.ParseDict(found, EvaluationResult()))
    done = run("eval", "show", task.name, "--worst", 0)
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:5]] == [[f"artifacts/{n}", str(n)] for n in (5, 10, 15)]
    assert "artifacts/10 (step 10) does best with exact_match 90 %" in done.stdout
    assert done.stderr.count("was trained on") == 1
    assert "artifacts/15 (and 2 more) was trained on 3 of these rows (datasets/d)" in done.stderr


def test_a_fine_tuning_shows_that_its_checkpoints_are_evaluated_too(run, platform):
    spec = TaskSpec(fine_tuning=FineTuning(evaluation_dataset="datasets/e", evaluation_checkpoints=True))
    assert "datasets/e, checkpoints too" in run("task", "show", platform.tasks.add(Task.QUEUED, spec=spec).name).stdout


def test_perplexity_is_measured_unless_it_is_not_wanted(run, platform, questions):
    assert run("eval", "run", "--model", "tiny", "--data", questions, "--no-perplexity").exit_code == 0
    asked = platform.tasks.created[0].task.spec.evaluation
    assert (asked.HasField("perplexity"), asked.perplexity) == (True, False)


def test_an_evaluation_is_watched_to_its_verdict(run, platform, questions):
    def succeed(task):
        platform.tasks.events[task.name] = a_run()
        task.evaluation_result.CopyFrom(json_format.ParseDict({**RESULT, "models": RESULT["models"][:1]}, EvaluationResult()))

    platform.tasks.on_create = succeed
    done = run("eval", "run", "--model", "tiny", "--data", questions, "--watch")
    assert done.exit_code == 0, done.output
    assert "exact_match 50 % (30 to 70)" in done.stdout
    assert "model chat" not in done.stderr


def test_general_questions_come_with_the_program(run, platform):
    assert run("eval", "run", "--model", "tiny", "--data", "general").exit_code == 0
    (request,) = platform.tasks.created
    assert request.task.display_name == "General questions"
    assert [(each.name, each.string_check.operation) for each in request.task.spec.evaluation.graders] == [("knows", 4)]
    (_, body) = platform.datasets.uploads[0]
    rows = [json.loads(line)["messages"] for line in body.splitlines()]
    assert len(rows) == len({question["content"] for question, _ in rows}) == 30
    assert all(known["content"] and known["role"] == "assistant" for _, known in rows)


def test_it_is_told_how_many_of_how_many_rows_were_asked(run, evaluated):
    evaluated.evaluation_result.dataset_row_count = 4000
    assert "on exact_match, 20 of 4,000 rows; 10 rows better" in run("eval", "show", evaluated.name).stdout


@pytest.mark.parametrize("grader_", ['{"type": ', "[1]", '[["x"]]', '{"type": 1}'], ids=["no json", "number", "list", "type"])
def test_a_grader_that_cannot_be_read_is_an_error_of_usage_before_anything_is_sent(run, platform, questions, grader_):
    done = run("eval", "run", "--model", "tiny", "--data", questions, "--grader", grader_, "--json")
    assert (done.exit_code, done.stdout, platform.tasks.created, platform.datasets.stored) == (2, "", [], [])
    assert isinstance(done.exception, SystemExit)


def test_a_file_of_graders_that_is_not_utf_8_is_told_apart_from_graders(run, questions, tmp_path):
    path = tmp_path / "graders.json"
    path.write_bytes('{"type": "string_check", "name": "größer"}'.encode("latin-1"))
    done = run("eval", "run", "--model", "tiny", "--data", questions, "--grader", path, "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert json.loads(done.stderr)["error"]["reason"] == "TEXT_UNREADABLE"


def test_what_was_found_is_a_table_with_intervals_verdicts_and_the_worst_rows(run, evaluated):
    done = run("eval", "show", evaluated.name)
    assert done.exit_code == 0, done.output
    assert "0.500 ± 0.200" in done.stdout
    assert "0.25, 0.40 s" in done.stdout
    assert " 0.50 s" in done.stdout
    assert "20.1 ± 2" in done.stdout
    assert "perplexity of the known answers 3.5: lower by 16.5 ± 2" in done.stdout
    assert "artifacts/a: better by 40 ± 20 points on exact_match, 20 rows; 10 rows better, 2 worse" in done.stdout
    assert "  the preferred output is the more probable one in 90 % (75 to 100) of the rows\n" in done.stdout
    assert done.stdout.index("row 2: question 2") < done.stdout.index("row 1: question 1")
    assert "row 3" not in done.stdout
    assert "\x1b" not in done.stdout
    assert "was trained on 3 of these rows (datasets/d)" in done.stderr
    assert "baseModels/tiny: exact_match could not be told of 3 of 20 rows" in done.stderr
    assert "artifacts/a: exact_match could not" not in done.stderr


def test_a_narrow_terminal_shows_every_score_whole(run, evaluated, monkeypatch, capsys):
    monkeypatch.setattr("tunesmith.cli.output.is_terminal", lambda: True)
    shown = CliRunner(env={"COLUMNS": "60"}).invoke(app, ["eval", "show", evaluated.name]).stdout
    for text in ("0.500 ± 0.200", "0.900 ± 0.125", "20.1 ± 2", "exact_match 50 % (30 to 70)", "baseModels/tiny", "artifacts/a"):
        assert text in shown


def test_the_worst_rows_can_be_left_out_and_json_is_the_task(run, evaluated):
    assert "question" not in run("eval", "show", evaluated.name, "--worst", 0).stdout
    assert json.loads(run("eval", "show", evaluated.name, "--json").stdout)["evaluation_result"]["primary_score"] == "exact_match"


def test_every_row_is_a_line_or_only_the_wrong_ones(run, evaluated):
    assert [json.loads(line) for line in run("eval", "rows", evaluated.name).stdout.splitlines()] == ROWS
    wrong = run("eval", "rows", evaluated.name, "--wrong").stdout.splitlines()
    assert [json.loads(line)["row"] for line in wrong] == [1, 2]


JUDGE = {"score_model": {"model": "m", "range_min": 1, "range_max": 5}}
WRONG = {
    "of a range": (JUDGE, [1.0, 4.5, 5.0], [1, 2]),
    "of a share": ({"score_model": {"model": "m"}}, [0.0, 0.9, 1.0], [1, 2]),
    "with a threshold": ({"multi": {"calculate_output": "4 * a", "pass_threshold": 3}}, [2.0, 3.0, 4.0], [1]),
    "without one": ({"multi": {"calculate_output": "a"}}, [0.5, 1.0, 1.0], [1]),
    "a check": ({"string_check": {"operation": "EQ"}}, [0.0, 1.0, 1.0], [1]),
}


@pytest.mark.parametrize(("kind", "scores", "wrong"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_depends_on_how_high_the_first_grader_goes(run, platform, kind, scores, wrong):
    rows = [a_row(number, 1.0, score) for number, score in enumerate(scores, 1)]
    artifact = platform.artifacts.add({"rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()})
    spec = json_format.ParseDict({"evaluation": {"graders": [{"name": "g", **kind}]}}, TaskSpec())
    measured = platform.tasks.add(Task.SUCCEEDED, spec=spec, artifact=artifact.name, evaluation_result=EvaluationResult())
    tuned = platform.tasks.add(Task.SUCCEEDED, artifact="artifacts/a", evaluation_task=measured.name)
    for task in (measured, tuned):
        shown = run("eval", "rows", task.name, "--wrong").stdout.splitlines()
        assert [json.loads(line)["row"] for line in shown] == wrong


def test_a_fine_tuning_shows_the_evaluation_that_followed_on_it(run, platform, evaluated):
    tuned = platform.tasks.add(
        Task.SUCCEEDED, artifact="artifacts/a", evaluation_task=evaluated.name, evaluation_result=evaluated.evaluation_result
    )
    assert "row 2: question 2" in run("eval", "show", tuned.name).stdout
    shown = run("task", "show", tuned.name).stdout
    assert evaluated.name in shown
    assert "better by 40 ± 20 points" in shown


def test_a_classifier_shows_the_rows_that_its_own_run_has_measured(run, platform, evaluated):
    spec = TaskSpec(fine_tuning=FineTuning(method=FineTuning.CLASSIFICATION))
    found = type(evaluated.evaluation_result)()
    found.CopyFrom(evaluated.evaluation_result)
    found.rows_artifact = evaluated.artifact
    tuned = platform.tasks.add(Task.SUCCEEDED, spec=spec, artifact="artifacts/a", evaluation_result=found)
    assert "row 2: question 2" in run("eval", "show", tuned.name).stdout
    assert [json.loads(line) for line in run("eval", "rows", tuned.name).stdout.splitlines()] == ROWS


def test_a_classifier_from_before_rows_were_kept_says_so(run, platform, evaluated):
    spec = TaskSpec(fine_tuning=FineTuning(method=FineTuning.CLASSIFICATION))
    found = evaluated.evaluation_result
    tuned = platform.tasks.add(Task.SUCCEEDED, spec=spec, artifact="artifacts/a", evaluation_result=found)
    done = run("eval", "show", tuned.name)
    assert done.exit_code == 0, done.output
    assert "better by 40 ± 20 points" in done.stdout
    assert "row 2" not in done.stdout
    rows = run("eval", "rows", tuned.name)
    assert (rows.exit_code != 0, "before single answers were kept" in rows.stderr) == (True, True)


def test_a_fine_tuning_whose_evaluation_is_not_done_says_how_that_stands(run, platform):
    evaluation = platform.tasks.add(Task.QUEUED, state_reason="waits for room")
    tuned = platform.tasks.add(Task.SUCCEEDED, artifact="artifacts/a", evaluation_task=evaluation.name)
    assert f"{evaluation.name} is QUEUED and has found nothing yet: waits for room" in run("eval", "show", tuned.name).stderr


def test_what_has_found_nothing_yet_says_so(run, platform):
    waiting = platform.tasks.add(Task.QUEUED, state_reason="waits for a trainer")
    done = run("eval", "show", waiting.name)
    assert (done.exit_code, "queued and has found nothing yet: waits for a trainer" in done.stderr.lower()) == (0, True)
    with Client() as client, pytest.raises(FailedPrecondition) as caught:
        list(client.evaluation_rows(waiting.name))
    assert caught.value.reason == "RESULT_NOT_READY"


def test_what_was_found_outlives_its_rows(run, platform, evaluated):
    platform.artifacts.stored.clear()
    platform.artifacts.files.clear()
    done = run("eval", "show", evaluated.name)
    assert (done.exit_code, "cannot be shown" in done.stderr) == (0, True)
    assert "better by 40 ± 20 points" in done.stdout


def test_labels_that_are_taken_for_others_are_told_most_frequent_first(run, platform):
    counts = [("a", "a", 9), ("a", "b", 1), ("b", "", 4), ("b", "b", 2), ("c", "a", 2), ("c", "b", 3)]
    told = [{"expected": known, "answered": said, "count": count} for known, said, count in counts]
    models = [RESULT["models"][0], RESULT["models"][1] | {"labels": {"macro_f1": 0.5, "counts": told}}]
    found = json_format.ParseDict(RESULT | {"models": models}, EvaluationResult())
    shown = run("eval", "show", platform.tasks.add(Task.SUCCEEDED, evaluation_result=found).name, "--worst", 0).stdout
    wrong = "b for none of the labels (4 rows), c for b (3 rows), c for a (2 rows)"
    assert f"artifacts/a: macro-F1 0.500; most often taken: {wrong}\n" in shown
    assert "baseModels/tiny: macro-F1" not in shown


def test_a_task_that_was_never_to_be_evaluated_is_not_waited_for(run, platform):
    spec = TaskSpec(fine_tuning=FineTuning())
    done = run("eval", "show", platform.tasks.add(Task.SUCCEEDED, spec=spec, artifact="artifacts/a").name)
    assert (done.exit_code, "has no evaluation" in done.stderr) == (0, True)


def test_what_a_cancelled_generation_has_left_is_named_and_other_tasks_are_none(run, platform):
    left = GenerationResult(row_count=9, answered_count=3, partial_artifact="artifacts/left")
    spec = TaskSpec(generation=Generation(model="tiny"))
    shown = run("batch", "show", platform.tasks.add(Task.CANCELLED, spec=spec, generation_result=left).name)
    assert "artifacts/left (answers.jsonl)" in shown.stdout
    tuned = platform.tasks.add(Task.SUCCEEDED, spec=TaskSpec(fine_tuning=FineTuning()), artifact="artifacts/a")
    assert "is no generation" in run("batch", "show", tuned.name).stderr


def test_a_generation_is_asked_for_and_shown(run, platform, questions):
    done = run("batch", "run", "--model", "tiny", "--data", questions, "--output-name", "answers", "--temperature", 0.5)
    assert done.exit_code == 0, done.output
    asked = platform.tasks.created[0].task.spec.generation
    assert (asked.model, asked.output_display_name, asked.sampling.temperature) == ("baseModels/tiny", "answers", 0.5)
    failed = [FailedRow(row=4, reason="CONTEXT_LENGTH_EXCEEDED", message="too long")]
    result = GenerationResult(dataset="datasets/made", row_count=9, answered_count=8, failed_count=1, failed_rows=failed)
    artifact = platform.artifacts.add({"failed.jsonl": b'{"row": 4}\n'})
    spec = TaskSpec(generation=Generation(model="tiny"))
    made = platform.tasks.add(Task.SUCCEEDED, spec=spec, artifact=artifact.name, generation_result=result)
    shown = run("batch", "show", made.name)
    assert "datasets/made" in shown.stdout
    assert "8 of 9" in shown.stdout
    assert "CONTEXT_LENGTH_EXCEEDED" in shown.stdout
    with Client() as client:
        assert list(client.failed_rows(made.name)) == [{"row": 4}]
        left = GenerationResult(row_count=9, answered_count=3, failed_count=1, partial_artifact=artifact.name)
        cancelled = platform.tasks.add(Task.CANCELLED, spec=spec, generation_result=left)
        assert list(client.failed_rows(cancelled.name)) == [{"row": 4}]
    assert platform.artifacts.alone == [False] * 2, "lines are given on before all have come"


def test_evaluation_data_of_a_task_is_uploaded_and_named(run, platform, questions):
    assert run("task", "create", "--data", "d", "--eval-data", questions).exit_code == 0
    assert platform.tasks.created[0].task.spec.fine_tuning.evaluation_dataset == platform.datasets.stored[0].name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "string_check", "name": "a", "operation": "eq"}, {"string_check": {"operation": "EQ"}}),
        (
            {"type": "text_similarity", "name": "a", "evaluation_metric": "rouge_l", "pass_threshold": 0.5},
            {"text_similarity": {"metric": "ROUGE_L", "pass_threshold": 0.5}},
        ),
        (
            {
                "type": "score_model",
                "name": "a",
                "model": "m",
                "range": [1, 5],
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "Rate "}, {"type": "input_text", "text": "it"}]}
                ],
            },
            {
                "score_model": {
                    "model": "baseModels/m",
                    "input": [{"role": "user", "content": "Rate it"}],
                    "range_min": 1,
                    "range_max": 5,
                }
            },
        ),
        (
            {
                "type": "label_model",
                "name": "a",
                "model": "m",
                "input": [{"role": "user", "content": "x"}],
                "labels": ["good", "bad"],
                "passing_labels": ["good"],
            },
            {
                "score_model": {
                    "model": "baseModels/m",
                    "input": [{"role": "user", "content": "x"}],
                    "labels": ["good", "bad"],
                    "passing_labels": ["good"],
                }
            },
        ),
        (
            {
                "type": "multi",
                "name": "a",
                "graders": {"x": {"type": "string_check", "operation": "ne"}},
                "calculate_output": "1 - x",
            },
            {"multi": {"graders": [{"name": "x", "string_check": {"operation": "NE"}}], "calculate_output": "1 - x"}},
        ),
        ({"type": "python", "name": "a", "source": "s"}, {"python": {"source": "s"}}),
    ],
    ids=["string", "similarity", "score", "label", "multi", "python"],
)
def test_graders_as_openai_writes_them(given, expected):
    assert grader(given) == json_format.ParseDict({"name": "a", **expected}, Grader())


SCORE = {"type": "score_model", "name": "a", "model": "m", "input": [{"role": "user", "content": "x"}]}
LENGTHS = {
    "not told": ({}, None),
    "ours": ({"max_tokens": 7}, 7),
    "OpenAI's": ({"sampling_params": {"max_completions_tokens": 7, "temperature": 0, "seed": 1}}, 7),
    "as chats have it": ({"sampling_params": {"max_completion_tokens": 7}}, 7),
    "nothing": ({"sampling_params": None, "range": None}, None),
}


@pytest.mark.parametrize(("given", "tokens"), LENGTHS.values(), ids=LENGTHS)
def test_how_long_a_judge_may_answer_is_told_as_openai_does(given, tokens):
    found = grader(SCORE | given).score_model
    assert (found.max_tokens if found.HasField("max_tokens") else None) == tokens


def test_a_grader_alone_in_a_multi_grader_is_one_of_them():
    alone = {"type": "string_check", "name": "x", "operation": "ne"}
    multi = {"type": "multi", "name": "a", "calculate_output": "x"}
    assert grader(multi | {"graders": alone}) == grader(multi | {"graders": {"x": alone}})


def test_a_judge_is_not_asked_for_a_random_answer_in_silence():
    with pytest.raises(InvalidArgument, match="temperature"):
        grader(SCORE | {"sampling_params": {"temperature": 1}})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("00000000-0000-0000-0000-000000000007", "tasks/00000000-0000-0000-0000-000000000007"),
        ("good@best", "models/good@best"),
        ("artifacts/x", "artifacts/x"),
    ],
)
def test_the_model_of_a_grader_is_named_as_everywhere(model, name):
    found = grader({"type": "score_model", "name": "a", "model": model, "input": [{"role": "user", "content": "x"}]})
    assert found.score_model.model == name


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"type": "embedding"}, "GRADER_UNKNOWN"),
        ({"type": "label_model", "model": "m", "input": []}, "GRADER_MALFORMED"),
        ({"type": "string_check", "operation": "same"}, "GRADER_MALFORMED"),
        ({"type": "text_similarity"}, "GRADER_MALFORMED"),
        ({"type": "score_model", "model": "m", "input": "x"}, "GRADER_MALFORMED"),
        ({"type": "multi", "graders": [], "calculate_output": ""}, "GRADER_MALFORMED"),
        (1, "GRADER_MALFORMED"),
        (["type"], "GRADER_MALFORMED"),
    ],
    ids=["type", "labels", "operation", "metric", "input", "graders", "number", "list"],
)
def test_what_is_no_grader_is_refused_before_any_call(given, reason):
    with pytest.raises(InvalidArgument) as caught:
        grader(given)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "name", ["tasks/{id}", "tasks/{id}@step-4", "{id}", "{id}@step-4"], ids=["task", "checkpoint", "bare", "bare checkpoint"]
)
def test_the_base_model_is_found_beneath_whatever_a_task_has_made(run, platform, questions, name):
    spec = TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny"))
    tuned = platform.tasks.add(Task.SUCCEEDED, spec=spec)
    given = name.format(id=tuned.name.removeprefix("tasks/"))
    done = run("eval", "run", "--model", "base", "--model", given, "--data", questions)
    assert done.exit_code == 0, done.output
    whole = given if given.startswith("tasks/") else f"tasks/{given}"
    assert list(platform.tasks.created[-1].task.spec.evaluation.models) == ["baseModels/tiny", whole]


def test_the_word_base_needs_something_that_was_tuned(run, platform, questions):
    done = run("eval", "run", "--model", "base", "--model", "tiny", "--data", questions)
    assert (done.exit_code, platform.tasks.created) == (2, [])
    assert "none of them is a tuned one" in done.stderr
