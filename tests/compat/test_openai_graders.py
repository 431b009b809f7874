"""The `openai` package tries graders on answers and checks them."""

import openai
import pytest

from tests.shared_stack import TINY

pytestmark = pytest.mark.e2e

SAME = {
    "type": "string_check",
    "name": "same",
    "operation": "ilike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
ALIKE = {
    "type": "text_similarity",
    "name": "alike",
    "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}


def test_a_grader_is_checked_and_run(client) -> None:
    graders = client.fine_tuning.alpha.graders
    both = {"type": "multi", "name": "both", "graders": {"same": SAME, "alike": ALIKE}, "calculate_output": "(same + alike) / 2"}
    assert graders.validate(grader=both).grader.name == "both"
    told = graders.run(grader=both, model_sample="It is Paris.", item={"answer": "paris"})
    assert told.sub_rewards["same"] == 1.0
    assert 0.5 < told.reward < 1.0
    assert not told.metadata.errors.other_error


def test_a_model_of_ours_is_asked(client) -> None:
    turns = [{"role": "user", "content": "Rate {{sample.output_text}}"}]
    judge = {"type": "score_model", "name": "judge", "model": TINY, "input": turns, "range": [0, 1]}
    told = client.fine_tuning.alpha.graders.run(grader=judge, model_sample="x")
    assert told.metadata.sampled_model_name == TINY
    assert told.metadata.token_usage > 0
    assert 0 <= told.reward <= 1


def test_a_model_of_ours_says_a_label_and_nothing_else(client) -> None:
    turns = [{"role": "user", "content": "Is {{sample.output_text}} good?"}]
    judge = {"type": "label_model", "name": "kind", "model": TINY, "input": turns, "labels": ["very good!", "(bad)"]}
    told = client.fine_tuning.alpha.graders.run(grader={**judge, "passing_labels": ["very good!", "(bad)"]}, model_sample="x")
    assert (told.reward, told.metadata.sampled_model_name, told.metadata.errors.model_grader_parse_error) == (1.0, TINY, False)


def test_code_is_refused(client) -> None:
    with pytest.raises(openai.BadRequestError, match="code of callers is not run here") as caught:
        client.fine_tuning.alpha.graders.validate(grader={"type": "python", "name": "x", "source": "1"})
    assert caught.value.param == "grader.type"
