"""The loss of supervised fine-tuning on a tiny random Llama: which tokens count, and that no cut into batches changes it."""

from types import SimpleNamespace

import pytest
import torch
from tiny_model import make_tiny_model
from torch.nn import functional
from training_configs import numbers
from training_examples import example
from transformers import AutoModelForCausalLM

from services.common.errors import ServiceError
from services.trainer.training.batches import share
from services.trainer.training.data import Dataset
from services.trainer.training.model import add_adapter, check_logits, has_plain_logits, parameter_counts
from services.trainer.training.objectives.packed import can_pack
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.registry import OBJECTIVES
from services.trainer.training.objectives.sequences import states_at

# peft asks transformers an old question; both answer rightly.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CPU = torch.device("cpu")
EXAMPLES = [
    example(range(3 + seed, 3 + seed + length), range(length - answer, length))
    for seed, (length, answer) in enumerate([(5, 2), (17, 1), (9, 8), (30, 3), (6, 5), (12, 4), (25, 20), (8, 1)])
]

PREFIX = tuple(range(100, 112))
PREFIXED = [example([*PREFIX, *each.texts[0].ids], [12 + target for target in each.texts[0].targets]) for each in EXAMPLES]
OBJECTIVE = OBJECTIVES["sft"](Dataset(tuple(EXAMPLES)), numbers())
SHARING = OBJECTIVES["sft"](Dataset(tuple(PREFIXED)), numbers())


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def base(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


@pytest.fixture
def model(base):
    torch.manual_seed(0)
    adapted = add_adapter(base, adapter(), "CAUSAL_LM")
    # A fresh adapter is zero on one side, which would hide half of the gradients.
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted


def adapter(**changes):
    return numbers(lora=changes).lora


def loss_of(model, examples, objective=OBJECTIVE):
    return objective.loss(Policy(model), objective.collate(examples, CPU), None)[0]


def reference(model, given):
    """The textbook way: all logits of one example alone, everything but targets ignored."""
    text = given.texts[0]
    ids = torch.tensor([list(text.ids)])
    labels = torch.full_like(ids, -100)
    labels[0, list(text.targets)] = ids[0, list(text.targets)]
    logits = model(input_ids=ids).logits
    return functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum")


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("examples", "objective"), [(EXAMPLES, OBJECTIVE), (PREFIXED, OBJECTIVE), (PREFIXED, SHARING)])
def test_loss_and_gradients_are_those_of_full_logits_on_each_example_alone(model, examples, objective):
    expected = sum(reference(model, each) for each in examples)
    expected.backward()
    wanted = {name: gradient.clone() for name, gradient in gradients(model).items()}
    model.zero_grad()
    loss = loss_of(model, examples, objective)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-4)


LAYOUTS = [(8, 1, 1), (1, 8, 1), (4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 2, 4)]


@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("count", [8, 5, 1])
def test_loss_and_gradients_of_a_window_do_not_depend_on_how_it_is_cut(model, shape, count):
    per_device, accumulation, processes = shape
    chosen = numbers(per_device_train_batch_size=per_device, gradient_accumulation_steps=accumulation, num_processes=processes)
    window = EXAMPLES[:count]
    targets = sum(each.target_count for each in window)
    (loss_of(model, window) / targets).backward()
    wanted = {name: gradient.clone() for name, gradient in gradients(model).items()}
    whole = (loss_of(model, window) / targets).item()
    model.zero_grad()

    total = 0.0
    for rank in share(range(count), [each.token_count for each in window], chosen):
        for micro_batch in rank:
            loss = loss_of(model, [window[index] for index in micro_batch]) / targets
            loss.backward()
            total += loss.item()

    assert total == pytest.approx(whole, rel=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)


def test_padding_never_changes_the_loss_of_an_example(model):
    short, long = EXAMPLES[0], EXAMPLES[3]
    alone = loss_of(model, [short]).item() + loss_of(model, [long]).item()
    assert loss_of(model, [short, long]).item() == pytest.approx(alone, rel=1e-5)


def test_what_all_examples_begin_with_runs_once_per_micro_batch():
    batch = SHARING.collate(PREFIXED[:3], CPU)
    assert batch.prefix.tolist() == [list(PREFIX)]
    assert batch.token_ids.shape == (3, 17)
    assert SHARING.collate([], CPU).prefix.tolist() == [list(PREFIX)]


def test_a_short_common_beginning_is_not_worth_a_second_pass():
    assert OBJECTIVE.collate(EXAMPLES, CPU).prefix.numel() == 0


def test_validation_data_that_begins_otherwise_runs_without_sharing(model):
    mixed = [PREFIXED[0], EXAMPLES[1]]
    assert SHARING.collate(mixed, CPU).prefix.numel() == 0
    assert loss_of(model, mixed, SHARING).item() == pytest.approx(loss_of(model, mixed).item(), rel=1e-6)


@pytest.mark.parametrize("objective", [OBJECTIVE, SHARING])
def test_an_empty_micro_batch_has_zero_loss_and_reaches_every_trained_weight(model, objective):
    loss = loss_of(model, [], objective)
    loss.backward()
    assert loss.item() == 0.0
    assert all(gradient is not None and not gradient.any() for gradient in gradients(model).values())


def test_tokens_without_loss_do_not_move_the_loss_but_targets_do(model):
    text = EXAMPLES[3].texts[0]
    fewer = example(text.ids, text.targets[1:])
    assert loss_of(model, [fewer]).item() < loss_of(model, [EXAMPLES[3]]).item()


def test_token_accuracy_counts_the_targets_that_are_the_most_likely_token(model):
    text = EXAMPLES[3].texts[0]
    with torch.no_grad():
        best = model(input_ids=torch.tensor([list(text.ids)])).logits[0].argmax(-1)
    # The same text, but with the most likely token behind its prompt as the one target.
    right = example([*text.ids[:27], int(best[26])], [27])
    wrong = example([*text.ids[:27], int(best[26]) ^ 1], [27])
    _, accuracy = OBJECTIVE.loss(Policy(model), OBJECTIVE.collate([right, wrong], CPU), None).tolist()
    assert accuracy == 1
    assert OBJECTIVE.metrics == ("token_accuracy",)


def test_zero_3_shares_no_prefix_because_ranks_must_run_the_same_modules():
    plain = OBJECTIVES["sft"](Dataset(tuple(PREFIXED)), numbers(zero_stage=3))
    assert plain.collate(PREFIXED[:3], CPU).prefix.numel() == 0


def test_only_the_adapter_is_trained(model):
    trained, total = parameter_counts(model)
    assert trained == sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
    assert total == 27_136 + trained


def test_target_modules_the_model_does_not_have_are_refused_with_those_it_has(base):
    with pytest.raises(ServiceError) as caught:
        add_adapter(base, adapter(target_modules=["query"]), "CAUSAL_LM")
    assert caught.value.reason == "INVALID_FIELD"
    assert "query" in caught.value.message
    assert "q_proj" in caught.value.hint


def test_named_target_modules_are_the_ones_adapted(base):
    adapted = add_adapter(base, adapter(target_modules=["q_proj"]), "CAUSAL_LM")
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in adapted.named_parameters() if "lora_" in name} == {"q_proj"}


def test_a_family_that_changes_its_logits_after_the_head_is_refused(base):
    check_logits(base)
    base.register_forward_hook(lambda module, inputs, output: type(output)(logits=output.logits * 2))
    with pytest.raises(ServiceError, match="llama change logits after the output head"):
        check_logits(base)


def test_packed_rows_have_the_loss_and_the_gradients_of_rows_alone(model):
    def gradients(loss):
        found = torch.autograd.grad(loss, [each for each in model.parameters() if each.requires_grad])
        return torch.cat([each.flatten() for each in found])

    packed = OBJECTIVE.loss(Policy(model, packs=True), OBJECTIVE.collate(EXAMPLES, CPU), None)[0]
    alone = sum(reference(model, each) for each in EXAMPLES)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(packed), gradients(alone), rtol=1e-4, atol=1e-4)


def test_what_a_packed_row_says_changes_nothing_for_the_others(model):
    batch = OBJECTIVE.collate(EXAMPLES, CPU)
    before = states_at(Policy(model, packs=True), batch, batch.rows, batch.predictors)
    batch.token_ids[3] = batch.token_ids[3] % 50 + 1
    after = states_at(Policy(model, packs=True), batch, batch.rows, batch.predictors)
    others = batch.rows != 3
    torch.testing.assert_close(after[others], before[others], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after[~others], before[~others], atol=1e-3)


def test_families_that_are_known_to_leave_their_logits_alone_do(base):
    from transformers import Gemma2ForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM

    class Capped(LlamaForCausalLM):
        pass

    assert has_plain_logits(base)
    check_logits(base)
    assert [has_plain_logits(kind.__new__(kind)) for kind in (Qwen2ForCausalLM, Gemma2ForCausalLM, Capped)] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("attention", ["flash_attention_2", "sdpa", "eager", None])
def test_only_an_attention_of_variable_length_packs(attention):
    assert can_pack(SimpleNamespace(_attn_implementation=attention)) is (attention == "flash_attention_2")
