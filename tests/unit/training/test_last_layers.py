"""Adapters in the last layers alone: where they are, what is refused, and that everything that reads an adapter finds them."""

import json
import re

import pytest
import torch
from fast_models import VOCABULARY, adapted, network
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from training_configs import config, numbers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForSequenceClassification

from services.common.bundles import Bundle
from services.common.errors import ServiceError
from services.inference.checkpoint import Recipe, servable
from services.inference.network import StockNetwork
from services.trainer.training.config import InitialWeights
from services.trainer.training.data import Dataset
from services.trainer.training.diagnosis.memory import Shape, working_bytes
from services.trainer.training.export import save_adapter
from services.trainer.training.exporting.config import ExportConfig
from services.trainer.training.exporting.source import load_source, merged
from services.trainer.training.initial import load_initial
from services.trainer.training.model import add_adapter, parameter_counts
from services.trainer.training.resume import identity

# peft asks transformers an old question; both answer rightly.
pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = torch.arange(12).unsqueeze(0) % VOCABULARY


def layers(model):
    """Those with trained weights."""
    trained = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return sorted({int(re.search(r"\.(\d+)\.", name).group(1)) for name in trained})


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


def modules(model):
    return {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize(("last_layers", "expected"), [(0, [0, 1, 2]), (1, [2]), (2, [1, 2]), (3, [0, 1, 2])])
def test_so_many_layers_at_the_end_have_adapters(last_layers, expected):
    assert layers(adapted(network(), last_layers=last_layers)) == expected


def test_all_linear_means_the_same_modules_as_in_all_layers():
    some, every = (adapted(network(tie_word_embeddings=False), last_layers=count) for count in (1, 0))
    assert modules(some) == modules(every)
    assert parameter_counts(some)[0] * 3 == parameter_counts(every)[0]


def test_modules_that_are_named_are_the_ones():
    assert modules(adapted(network(), last_layers=2, target_modules=["q_proj", "up_proj"])) == {"q_proj", "up_proj"}


def test_a_family_with_layers_of_another_kind_has_them_too():
    base = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=3, n_head=1, vocab_size=16, n_positions=16))
    model = add_adapter(base, numbers(lora={"last_layers": 2}).lora, "CAUSAL_LM")
    assert layers(model) == [1, 2]
    assert modules(model) == {"c_attn", "c_proj", "c_fc"}


def test_the_head_of_a_classifier_learns_beside_them():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32}
    base = LlamaForSequenceClassification(LlamaConfig(**sizes, num_labels=2))
    model = add_adapter(base, numbers(lora={"last_layers": 1}).lora, "SEQ_CLS")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(".layers.1." in name or ".score." in name for name in trained)
    assert any(".score." in name for name in trained)


def test_more_than_the_model_has_are_refused_with_their_number():
    with pytest.raises(ServiceError, match=r"lora\.last_layers 4: the model has 3 layers") as refused:
        adapted(network(), last_layers=4)
    assert (refused.value.reason, refused.value.hint) == ("INVALID_FIELD", "Use at most 3.")


def test_a_module_that_is_not_there_is_refused_as_ever():
    with pytest.raises(ServiceError, match=r"lora\.target_modules query") as refused:
        adapted(network(), last_layers=1, target_modules=["query"])
    assert "q_proj" in refused.value.hint


def test_the_stock_path_keeps_nothing_of_frozen_layers():
    model, seen = adapted(network(), last_layers=1), []
    for layer in model.get_base_model().get_decoder().layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    model(input_ids=TOKENS)
    assert seen == [False, False, True]


def test_memory_is_estimated_by_the_layers_that_keep_something():
    shape = network().config
    every, two, one = (Shape.of(shape, count) for count in (0, 2, 1))
    assert (every.layers, two.layers, one.layers) == (3, 3, 2)
    assert working_bytes(one, 100, 0) * 3 == pytest.approx(working_bytes(every, 100, 0) * 2)


# ---- who reads an adapter


@pytest.fixture
def trained(tmp_path):
    """(its logits, its directory, the base model's)."""
    network().save_pretrained(tmp_path / "base")
    model = adapted(network(), last_layers=2)
    save_adapter(model, tmp_path / "adapter")
    return logits(model), tmp_path / "adapter", tmp_path / "base"


def test_the_adapter_says_which_layers_it_is_in(trained):
    described = json.loads((trained[1] / "adapter_config.json").read_text())
    assert described["layers_to_transform"] == [1, 2]
    assert len(described["target_modules"]) == 7


def test_inference_answers_with_it_beside_one_in_all_layers(trained, tmp_path):
    expected, directory, _ = trained
    other = adapted(network(), rank=2)
    save_adapter(other, tmp_path / "other")
    base = network().eval()
    adapters = StockNetwork(base).adapters
    for name, place in (("some", directory), ("every", tmp_path / "other")):
        adapters.load(name, place)
    adapters.route(["some", "every", None])
    with torch.no_grad():
        found = base(input_ids=TOKENS.expand(3, -1)).logits
    for row, wanted in zip(found, (expected, logits(other), logits(network())), strict=True):
        torch.testing.assert_close(row, wanted[0], rtol=1e-4, atol=1e-5)


def test_inference_answers_with_its_checkpoint(trained, tmp_path):
    model = adapted(network(), last_layers=2)
    weights = {f"weight/model.{name}": value.detach() for name, value in model.named_parameters() if value.requires_grad}
    (tmp_path / "checkpoint").mkdir()
    save_file(weights, tmp_path / "checkpoint" / "shared.safetensors")
    lora = {"r": 4, "lora_alpha": 8.0, "target_modules": "all-linear"}
    checkpoint = Bundle("artifacts/c", tmp_path / "checkpoint", "baseModels/tiny", "r1", kind="CHECKPOINT")
    made = servable(checkpoint, Recipe("SFT", lora, 2), Bundle("b", trained[2], "b", "r1"))
    base = network().eval()
    adapters = StockNetwork(base).adapters
    adapters.load("c", made.directory)
    adapters.route(["c"])
    torch.testing.assert_close(logits(base), trained[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["ADAPTER", "CHECKPOINT"])
def test_it_is_merged_into_the_weights(trained, tmp_path, kind):
    expected, source, base = trained
    lora = numbers(lora={"last_layers": 2}).lora
    if kind == "CHECKPOINT":
        model, source = adapted(network(), last_layers=2), tmp_path / "checkpoint"
        source.mkdir()
        weights = {f"weight/model.{name}": value.detach() for name, value in model.named_parameters() if value.requires_grad}
        save_file(weights, source / "shared.safetensors")
    ask = ExportConfig("runs/a", "baseModels/a", base, source, kind, 1, lora, "MERGED", "F16", tmp_path / "out")
    torch.testing.assert_close(logits(merged(load_source(ask))), expected, rtol=1e-4, atol=1e-5)


def test_training_goes_on_from_it_in_the_same_layers_alone(trained):
    expected, directory, _ = trained
    fresh = add_adapter(network(), numbers(lora={"last_layers": 2}).lora, "CAUSAL_LM")
    load_initial(fresh, InitialWeights(directory, "ADAPTER"))
    torch.testing.assert_close(logits(fresh), expected)
    for other in (1, 0):
        with pytest.raises(ServiceError, match="other modules") as refused:
            load_initial(adapted(network(), last_layers=other), InitialWeights(directory, "ADAPTER"))
        assert refused.value.reason == "INITIAL_WEIGHTS_UNFIT"


def test_only_adapters_of_those_layers_are_saved():
    names = get_peft_model_state_dict(adapted(network(), last_layers=1), save_embedding_layers=False)
    assert all(".layers.2." in name for name in names)


# ---- checkpoints


def test_a_checkpoint_belongs_to_its_layers_and_old_ones_to_all():
    some, every = (identity(config(lora={"last_layers": count}), Dataset(())) for count in (8, 0))
    assert some["hyperparameters"]["lora"]["last_layers"] == 8
    assert "last_layers" not in every["hyperparameters"]["lora"]
    assert some != every
