"""The demo data keeps its promises: balanced, strictly formatted, and held out for real."""

import json
import re
from collections import Counter
from importlib.resources import files

import pytest

DEMO = files("tunesmith") / "local" / "demo"
INTENTS = {"tracking", "refund", "cancel", "address", "payment", "product", "login", "discount"}
PER_INTENT = {"train": 40, "heldout": 10}
SPLITS = sorted(PER_INTENT)


def lines(split: str) -> list[str]:
    return (DEMO / f"{split}.jsonl").read_text(encoding="ascii").splitlines()


def column(split: str, role: str) -> list[str]:
    """What one role says, in file order."""
    return [m["content"] for line in lines(split) for m in json.loads(line)["messages"] if m["role"] == role]


def intents(split: str) -> list[str]:
    return [json.loads(answer)["intent"] for answer in column(split, "assistant")]


def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation, so that only the wording counts."""
    return tuple(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    said = words(text)
    return {said[i : i + n] for i in range(len(said) - n + 1)}


def likeness(a: str, b: str) -> float:
    """Jaccard index of the two messages' word sets, 0 to 1."""
    left, right = set(words(a)), set(words(b))
    return len(left & right) / len(left | right)


@pytest.mark.parametrize("split", SPLITS)
def test_every_intent_has_the_same_number_of_examples(split: str) -> None:
    assert Counter(intents(split)) == dict.fromkeys(INTENTS, PER_INTENT[split])


@pytest.mark.parametrize("split", SPLITS)
def test_every_line_is_one_chat_of_system_user_assistant(split: str) -> None:
    for line in lines(split):
        example = json.loads(line)
        assert list(example) == ["messages"]
        assert [m["role"] for m in example["messages"]] == ["system", "user", "assistant"]
        assert all(set(m) == {"role", "content"} for m in example["messages"])


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_is_one_line_of_json_with_the_single_key_intent(split: str) -> None:
    assert set(column(split, "assistant")) == {json.dumps({"intent": intent}) for intent in INTENTS}


def test_both_files_share_one_short_system_prompt_that_names_no_intent() -> None:
    (prompt,) = {prompt for split in SPLITS for prompt in column(split, "system")}
    assert len(prompt.split()) <= 20
    assert INTENTS.isdisjoint(words(prompt))


@pytest.mark.parametrize("split", SPLITS)
def test_messages_have_five_to_thirty_words_and_no_stray_blanks(split: str) -> None:
    for message in column(split, "user"):
        assert 5 <= len(message.split()) <= 30, message
        assert message == " ".join(message.split()), message


@pytest.mark.parametrize("split", SPLITS)
def test_every_intent_has_short_and_long_messages(split: str) -> None:
    for intent in INTENTS:
        lengths = [
            len(message.split()) for message, label in zip(column(split, "user"), intents(split), strict=True) if label == intent
        ]
        assert min(lengths) <= 10, intent
        assert max(lengths) >= 15, intent


def test_no_message_occurs_twice_in_either_file() -> None:
    counts = Counter(words(message) for split in SPLITS for message in column(split, "user"))
    assert [message for message, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("n", [5, 6])
def test_held_out_messages_share_no_run_of_words_with_training(n: int) -> None:
    seen = {gram for message in column("train", "user") for gram in ngrams(message, n)}
    assert {gram for message in column("heldout", "user") for gram in ngrams(message, n)} & seen == set()


def test_no_held_out_message_is_a_near_copy_of_a_training_message() -> None:
    train = column("train", "user")
    closest = {message: max(likeness(message, other) for other in train) for message in column("heldout", "user")}
    assert {message: score for message, score in closest.items() if score > 0.5} == {}


@pytest.mark.parametrize("split", SPLITS)
def test_messages_hold_no_mail_address_link_or_phone_number(split: str) -> None:
    personal = re.compile(r"\S@\S|https?:|www\.|\+?\d[\d ()-]{6,}\d")
    assert [message for message in column(split, "user") if personal.search(message)] == []


@pytest.mark.parametrize("split", SPLITS)
def test_examples_are_shuffled_so_that_any_fifth_of_a_file_holds_most_intents(split: str) -> None:
    labels = intents(split)
    size = len(labels) // 5
    for start in range(0, len(labels), size):
        assert len(set(labels[start : start + size])) >= 6


def test_the_readme_states_the_licence_the_intents_and_the_counts() -> None:
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in readme
    assert all(f"`{intent}`" in readme for intent in INTENTS)
    for split in SPLITS:
        assert f"`{split}.jsonl`: {len(lines(split))} examples, {PER_INTENT[split]} per intent" in readme
