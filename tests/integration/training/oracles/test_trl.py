"""Our losses and gradients are TRL's on the same batch; TRL is needed for this comparison only.

TRL's loss functions are called as they are, on a trainer that has only what they read.
"""

from collections import defaultdict
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from training_pairs import CONVERSATIONS, PAIRS, TEXTS, labels, padded
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import add_fused_lm_head


def stub(model, **attributes):
    """A trainer of TRL as far as its loss functions look at it."""
    accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        gather=lambda value: value,
        gather_for_metrics=lambda value: value,
        unwrap_model=lambda value: value,
        num_processes=1,
        parallelism_config=None,
    )
    return SimpleNamespace(
        model=model,
        ref_model=None,
        accelerator=accelerator,
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, loss_type="nll", average_tokens_across_devices=False),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **attributes,
    )


def fused(model, *outputs):
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1", *outputs))
    return model


def dpo_loss(model, pairs, beta=0.1, kinds=("sigmoid",), weights=(1.0,), smoothing=0.0, reference_free=False):
    texts = [text for side in zip(*(each.texts for each in pairs), strict=True) for text in side]
    ids, attention, completion = padded(texts)
    inputs = {"input_ids": ids, "attention_mask": attention, "completion_mask": completion}
    trainer = stub(
        model,
        beta=beta,
        loss_types=list(kinds),
        loss_weights=list(weights),
        label_smoothing=smoothing,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        use_weighting=False,
    )
    if reference_free:
        trainer.precompute_ref_logps = True
        inputs |= {"ref_chosen_logps": torch.zeros(len(pairs)), "ref_rejected_logps": torch.zeros(len(pairs))}
    return DPOTrainer._compute_loss(trainer, model, inputs, False), trainer


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo(model, ours, equal, beta):
    mine = ours("dpo", PAIRS, preference={"beta": beta})
    equal(fused(model), lambda: mine.loss(model), lambda: dpo_loss(model, PAIRS, beta)[0])


def test_dpo_measures_what_trl_measures(model, ours):
    mine = ours("dpo", PAIRS)
    _, trainer = dpo_loss(fused(model), PAIRS)
    mine.loss(model)
    theirs = {name.replace("/", "_"): values[0] for name, values in trainer._metrics["train"].items()}
    for name, other in (
        ("rewards_chosen", "rewards_chosen"),
        ("rewards_rejected", "rewards_rejected"),
        ("rewards_margin", "rewards_margins"),
        ("rewards_accuracy", "rewards_accuracies"),
    ):
        assert mine.metrics[name] == pytest.approx(theirs[other], rel=1e-4), name


def test_dpo_without_a_reference(model, ours, equal):
    mine = ours("dpo", PAIRS, preference={"reference_free": True})
    equal(fused(model), lambda: mine.loss(model), lambda: dpo_loss(model, PAIRS, reference_free=True)[0])


def test_dpo_with_the_cross_entropy_of_the_preferred_answers(model, ours, equal):
    mine = ours("dpo", PAIRS, preference={"sft_loss_weight": 0.7})
    theirs = {"kinds": ("sigmoid", "sft"), "weights": (1.0, 0.7)}
    equal(fused(model), lambda: mine.loss(model), lambda: dpo_loss(model, PAIRS, **theirs)[0])


@pytest.mark.parametrize("pair", PAIRS)
def test_dpo_with_label_smoothing(model, ours, equal, pair):
    """TRL smooths in `aot` only, which for one pair is DPO."""
    mine = ours("dpo", [pair], preference={"label_smoothing": 0.2})
    equal(fused(model), lambda: mine.loss(model), lambda: dpo_loss(model, [pair], kinds=("aot",), smoothing=0.2)[0])


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, 0.5)])
def test_kto(model, ours, equal, weights):
    desirable, undesirable = weights
    mine = ours("kto", PAIRS, preference={"desirable_weight": desirable, "undesirable_weight": undesirable})
    chosen, rejected = ([each.texts[side] for each in PAIRS] for side in (0, 1))
    # The unmatched answers are ours to choose; what is compared is what is made of them.
    other = [each.texts[side] for side in (2, 3) for each in mine.examples]
    ids, attention, completion = padded([*chosen, *rejected])
    kl_ids, kl_attention, kl_completion = padded(other)
    inputs = {
        "input_ids": ids,
        "attention_mask": attention,
        "completion_mask": completion,
        "KL_input_ids": kl_ids,
        "KL_attention_mask": kl_attention,
        "KL_completion_mask": kl_completion,
        "label": torch.tensor([True] * len(chosen) + [False] * len(rejected)),
    }
    trainer = stub(
        model,
        beta=0.1,
        loss_type="kto",
        calculate_KL=True,
        desirable_weight=desirable,
        undesirable_weight=undesirable,
    )
    trainer._compute_kl_logps = partial(KTOTrainer._compute_kl_logps, trainer)
    equal(fused(model), lambda: mine.loss(model), lambda: KTOTrainer._compute_loss(trainer, model, dict(inputs), False))
    assert mine.metrics["kl"] == pytest.approx(trainer._metrics["train"]["kl"][0], rel=1e-4, abs=1e-6)


def test_orpo(model, ours, equal):
    mine = ours("orpo", PAIRS, preference={"beta": 0.3})
    batch = {}
    for side, name in enumerate(("chosen", "rejected")):
        texts = [each.texts[side] for each in PAIRS]
        batch[f"{name}_input_ids"], batch[f"{name}_attention_mask"], _ = padded(texts)
        batch[f"{name}_labels"] = labels(texts)
    trainer = stub(model, beta=0.3, is_encoder_decoder=False, padding_value=0)
    for name in ("concatenated_forward", "odds_ratio_loss"):
        setattr(trainer, name, partial(getattr(ORPOTrainer, name), trainer))
    trainer.concatenated_inputs, trainer.get_batch_logps = ORPOTrainer.concatenated_inputs, ORPOTrainer.get_batch_logps
    equal(model, lambda: mine.loss(model), lambda: ORPOTrainer.get_batch_loss_metrics(trainer, model, batch)[0])


@pytest.mark.parametrize(("method", "rows"), [("sft", CONVERSATIONS), ("cpt", TEXTS)])
def test_sft(model, ours, equal, method, rows):
    mine = ours(method, rows)
    texts = [each.texts[0] for each in rows]
    ids, attention, _ = padded(texts)
    trainer = stub(model, compute_loss_func=None, label_smoother=None)
    trainer.get_tp_size = lambda: 1

    def theirs():
        inputs = {"input_ids": ids, "attention_mask": attention, "labels": labels(texts)}
        return SFTTrainer.compute_loss(trainer, model, inputs)

    equal(fused(model), lambda: mine.loss(model), theirs)
    assert mine.metrics["token_accuracy"] == pytest.approx(trainer._metrics["train"]["mean_token_accuracy"][0])
