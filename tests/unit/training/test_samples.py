"""Answers to prompts: how they are asked, generated and read, and that chance does not notice."""

import random
from types import SimpleNamespace

import pytest
import torch
from tiny_model import make_tiny_model
from training_configs import config

from services.common.rendering import Renderer
from services.trainer.training.generation import continuation
from services.trainer.training.random_state import preserved_random_state
from services.trainer.training.samples import MOST_TOKENS, Samples

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return Renderer.from_directory(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


class Model:
    """Says the given tokens one after the other; remembers what it was shown."""

    def __init__(self, *says):
        self._says = iter(says)
        self.shown = []

    def __call__(self, *, input_ids, past_key_values, use_cache, logits_to_keep):
        self.shown.append((input_ids[0].tolist(), past_key_values))
        logits = torch.zeros(1, input_ids.shape[1], 50)
        logits[0, -1, next(self._says)] = 1.0
        return SimpleNamespace(logits=logits, past_key_values=len(self.shown))


def test_a_continuation_feeds_each_token_back_and_keeps_what_was_computed():
    model = Model(7, 8, 9)
    assert continuation(model, [1, 2, 3], 3, frozenset(), CPU) == [7, 8, 9]
    assert model.shown == [([1, 2, 3], None), ([7], 1), ([8], 2)]


@pytest.mark.parametrize(("stops", "found"), [({8}, [7, 8]), ({7}, [7]), ({99}, [7, 8, 9, 10])], ids=["second", "first", "never"])
def test_a_continuation_ends_with_a_stop_or_when_it_is_long_enough(stops, found):
    assert continuation(Model(7, 8, 9, 10, 11), [1], 4, frozenset(stops), CPU) == found


class Engine:
    """Answers every prompt with the same tokens."""

    def __init__(self, ids):
        self.ids, self.asked = ids, []

    def generate(self, token_ids, most, stops):
        self.asked.append((list(token_ids), most, stops))
        return self.ids


def test_a_prompt_is_asked_as_a_users_message_and_the_answer_is_read_without_its_end(renderer):
    samples = Samples.asking(["hello", "bye"], renderer, 512, chats=True)
    end = next(iter(renderer.end_of_turn_ids))
    answer = renderer.render_text("tracking").token_ids[:-1]
    engine = Engine([*answer, end])
    first, second = samples.generate(engine)
    assert (first.index, first.prompt, first.text, first.truncated) == (0, "hello", "tracking", False)
    assert (second.index, second.prompt) == (1, "bye")
    expected = renderer.prompt([{"role": "user", "content": "hello"}])
    assert engine.asked[0] == (expected, MOST_TOKENS, renderer.end_of_turn_ids)


def test_an_answer_without_an_end_was_cut(renderer):
    ids = renderer.render_text("track").token_ids[:-1]
    [answer] = Samples.asking(["hello"], renderer, 512, chats=True).generate(Engine(ids))
    assert (answer.text, answer.truncated) == ("track", True)


def test_an_empty_answer_is_whole_when_it_ends_at_once(renderer):
    end = next(iter(renderer.end_of_turn_ids))
    [answer] = Samples.asking(["hello"], renderer, 512, chats=True).generate(Engine([end]))
    assert (answer.text, answer.truncated) == ("", False)


def test_a_text_is_to_go_on_and_ends_where_texts_end(renderer):
    engine = Engine([1])
    list(Samples.asking(["once upon"], renderer, 512, chats=False).generate(engine))
    [(asked, _, stops)] = engine.asked
    whole = renderer.render_text("once upon").token_ids
    assert asked == whole[:-1]
    assert stops == {whole[-1]}


def test_a_prompt_that_is_too_long_loses_its_beginning(renderer):
    engine = Engine([1])
    list(Samples.asking(["a" * 100], renderer, 20, chats=True).generate(engine))
    assert engine.asked[0][0] == renderer.prompt([{"role": "user", "content": "a" * 100}])[-20:]


@pytest.mark.parametrize(
    ("prompts", "method", "asks"), [(None, "sft", False), (["p"], "sft", True), (["p"], "cpt", True)], ids=str
)
def test_only_a_task_with_prompts_asks(renderer, prompts, method, asks):
    assert (Samples.asked_by(config(paths={"sample_prompts": prompts, "method": method}), renderer) is not None) is asks


def test_chance_goes_on_as_if_nothing_had_been_drawn():
    torch.manual_seed(1)
    random.seed(1)
    expected = torch.rand(3).tolist(), random.random()
    torch.manual_seed(1)
    random.seed(1)
    with preserved_random_state(CPU):
        torch.rand(100)
        torch.manual_seed(5)
        random.random()
    assert (torch.rand(3).tolist(), random.random()) == expected
