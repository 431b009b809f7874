"""Which model is called the best, and how it is said."""

import numpy as np
import pytest

from services.trainer.evaluating.best import Contender, best_model, label
from services.trainer.evaluating.bootstrap import resampled_means


def contender(model: str, values: list[float], step: int = 0, perplexity: float | None = None) -> Contender:
    means = resampled_means(np.array(values)[:, None], 42)[:, 0]
    return Contender(model, step, float(np.mean(values)), means, perplexity, f"verdict of {model}")


def right(count: int, rows: int = 100) -> list[float]:
    """So many of the first rows."""
    return [1.0] * count + [0.0] * (rows - count)


def chosen(*compared: Contender, rows: int = 100, is_share: bool = True) -> dict:
    found = best_model(compared, "exact_match", rows, is_share=is_share)
    assert found is not None
    return found


def test_where_there_is_no_choice_there_is_no_best() -> None:
    assert best_model([], "f1", 20, is_share=True) is None
    assert best_model([contender("a", right(5))], "f1", 20, is_share=True) is None


def test_the_highest_score_wins_wherever_it_stands() -> None:
    early, middle, late = (contender(name, right(n), step) for name, n, step in (("a", 60, 5), ("b", 90, 10), ("c", 70, 15)))
    for order in ((early, middle, late), (middle, late, early), (late, early, middle)):
        assert chosen(*order)["model"] == "b"
        assert chosen(*order)["step"] == 10


def test_the_distance_to_the_last_is_told_with_its_interval() -> None:
    found = chosen(contender("a", right(90), 5), contender("b", right(60), 10))
    assert found["text"].startswith("a (step 5) does best with exact_match 90 % (84 to 9")
    assert "against the first model: verdict of a; against the last one, b (step 10): better by 30 ± " in found["text"]


def test_the_last_is_the_last_of_however_many() -> None:
    compared = [contender(name, right(n), step) for name, n, step in (("a", 90, 5), ("b", 80, 10), ("c", 20, 15), ("d", 60, 20))]
    assert "against the last one, d (step 20): better by 30 ± " in chosen(*compared)["text"]


def test_a_distance_that_may_be_chance_is_called_that() -> None:
    found = chosen(contender("a", right(61)), contender("b", [0.0] * 40 + right(60, 60)))
    assert "a does best" in found["text"]
    assert "b: no significant change (+1 ± " in found["text"]


def test_the_last_may_be_the_best() -> None:
    found = chosen(contender("a", right(50), 5), contender("b", right(60), 10))
    assert found["text"].endswith("against the first model: verdict of b; it is the last one")


@pytest.mark.parametrize(
    ("perplexities", "best"),
    [((3.0, 2.0, 4.0), "b"), ((None, 2.0, 1.0), "c"), ((None, None, None), "a"), ((2.0, 2.0, 2.0), "a")],
    ids=["lowest", "not told is no argument", "first named", "all equal"],
)
def test_of_equal_scores_the_lowest_perplexity_decides_then_the_order(perplexities: tuple, best: str) -> None:
    equal = [contender(name, right(50), perplexity=each) for name, each in zip("abc", perplexities, strict=True)]
    assert chosen(*equal)["model"] == best


def test_perplexity_never_outweighs_a_score() -> None:
    assert chosen(contender("a", right(51), perplexity=9.0), contender("b", right(50), perplexity=1.0))["model"] == "a"


def test_few_rows_say_too_little_also_here() -> None:
    found = chosen(contender("a", right(5, 8)), contender("b", right(1, 8)), rows=8)
    assert "8 rows say too little" in found["text"]


def test_scores_that_are_no_shares_are_told_as_they_are() -> None:
    found = chosen(contender("a", [7.0, 9.0] * 20), contender("b", [6.0] * 40), is_share=False)
    assert "exact_match 8 (" in found["text"]
    assert "better by 2 ± " in found["text"]
    assert "%" not in found["text"]


def test_a_model_without_a_step_is_its_name() -> None:
    assert (label("baseModels/x", 0), label("artifacts/y", 12)) == ("baseModels/x", "artifacts/y (step 12)")
