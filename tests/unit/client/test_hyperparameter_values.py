"""Which spelling sets which field, and what every field refuses."""

import pytest
from google.protobuf.descriptor import FieldDescriptor

from tunesmith.errors import InvalidArgument
from tunesmith.hyperparameters import build, known_keys, parse_settings
from tunesmith.v1.task_spec_pb2 import Hyperparameters, Lora, Preference

SCALARS = [field for field in Hyperparameters.DESCRIPTOR.fields if field.message_type is None]
ADAPTER = [field for field in Lora.DESCRIPTOR.fields if not field.is_repeated]
SAMPLES = {
    FieldDescriptor.CPPTYPE_DOUBLE: ("0.5", 0.5),
    FieldDescriptor.CPPTYPE_INT32: ("7", 7),
    FieldDescriptor.CPPTYPE_INT64: ("7", 7),
    FieldDescriptor.CPPTYPE_UINT32: ("7", 7),
    FieldDescriptor.CPPTYPE_STRING: ("word", "word"),
    FieldDescriptor.CPPTYPE_BOOL: ("true", True),
}
NUMBERS = [field for field in SCALARS + ADAPTER if field.cpp_type != FieldDescriptor.CPPTYPE_STRING]


def by_name(field: FieldDescriptor) -> str:
    return field.full_name.rpartition(".")[2]


def key_of(field: FieldDescriptor) -> str:
    return f"lora.{field.name}" if field.containing_type.name == "Lora" else field.name


@pytest.mark.parametrize("field", SCALARS, ids=by_name)
def test_every_number_of_the_contract_can_be_set_from_text_and_alone(field):
    text, value = SAMPLES[field.cpp_type]
    assert build({field.name: text}) == Hyperparameters(**{field.name: value})


@pytest.mark.parametrize("field", ADAPTER, ids=by_name)
@pytest.mark.parametrize("spelling", ["lora.{}", "lora_{}"])
def test_every_number_of_the_adapter_can_be_set_dotted_and_joined(field, spelling):
    text, value = SAMPLES[field.cpp_type]
    assert build({spelling.format(field.name): text}) == Hyperparameters(lora=Lora(**{field.name: value}))


@pytest.mark.parametrize("field", NUMBERS, ids=by_name)
@pytest.mark.parametrize("value", ["", "a few", None, [1], {"a": 1}])
def test_no_number_takes_what_is_none(field, value):
    with pytest.raises(InvalidArgument) as caught:
        build({key_of(field): value})
    assert caught.value.reason == "HYPERPARAMETER_INVALID"
    assert caught.value.message == f"{key_of(field)} does not take {value!r}"
    assert "learning_rate=1e-4" in caught.value.hint


@pytest.mark.parametrize("text", ["1.5", "1e3", "1.0", "0x10", "1,000"])
@pytest.mark.parametrize("key", ["max_steps", "lora.rank"])
def test_whole_numbers_are_written_whole(key, text):
    with pytest.raises(InvalidArgument, match="does not take"):
        build({key: text})


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, "2147483648"])
def test_a_number_too_large_for_its_field_is_refused_and_not_wrapped(value):
    with pytest.raises(InvalidArgument):
        build({"global_batch_size": value})


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("-1", -1.0), (".5", 0.5), ("2", 2.0)])
def test_ranges_are_the_servers_business(text, value):
    assert build({"learning_rate": text}).learning_rate == value


@pytest.mark.parametrize("word", ["true", "True", "YES", "1"])
def test_words_for_yes(word):
    assert build({"lora.use_rslora": word}).lora.use_rslora is True


@pytest.mark.parametrize("word", ["false", "False", "NO", "0"])
def test_words_for_no_set_the_field_to_no(word):
    adapter = build({"lora.use_rslora": word}).lora
    assert adapter.HasField("use_rslora")
    assert adapter.use_rslora is False


@pytest.mark.parametrize("word", ["on", "off", "y", "2", ""])
def test_other_words_are_neither(word):
    with pytest.raises(InvalidArgument):
        build({"lora.use_rslora": word})


@pytest.mark.parametrize("value", [5, [1, 2], None, ["q_proj", 3]])
def test_target_modules_are_words(value):
    with pytest.raises(InvalidArgument, match=r"lora\.target_modules"):
        build({"lora.target_modules": value})


@pytest.mark.parametrize("value", ["all-linear", ["all-linear"], ("all-linear",)])
def test_one_target_module_is_a_list_of_one(value):
    assert build({"lora": {"target_modules": value}}) == Hyperparameters(lora=Lora(target_modules=["all-linear"]))


def test_an_empty_group_sets_nothing_and_not_even_the_group():
    assert not build({"lora": {}}).HasField("lora")


@pytest.mark.parametrize("value", ["8", 8, None])
def test_the_group_itself_is_no_key(value):
    with pytest.raises(InvalidArgument) as caught:
        build({"lora": value})
    assert caught.value.reason == "HYPERPARAMETER_UNKNOWN"


@pytest.mark.parametrize("key", ["lora.lora.rank", "lora.", "lora_", "lora.rank.rank", "optimizer.lr", "Learning_Rate", ""])
def test_a_path_that_leads_nowhere_is_refused(key):
    with pytest.raises(InvalidArgument) as caught:
        build({key: 1})
    assert caught.value.message == f"there is no hyperparameter {key!r}"


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("n_epochs", "num_train_epochs"),
        ("scheduler", "lr_scheduler_type"),
        ("max_length", "max_seq_length"),
        ("steps", "max_steps"),
        ("r", "lora.rank"),
        ("alpha", "lora.alpha"),
    ],
)
def test_words_of_other_programs_lead_to_ours(foreign, ours):
    with pytest.raises(InvalidArgument) as caught:
        build({foreign: 1})
    assert caught.value.hint == f"Did you mean {ours}?"
    assert ours in known_keys()


def test_the_first_wrong_key_is_named_and_nothing_of_the_rest_is_lost_silently():
    with pytest.raises(InvalidArgument, match="'second'"):
        build({"learning_rate": 1e-4, "second": 1})


def test_known_keys_are_dotted_and_unique():
    keys = known_keys()
    assert len(keys) == len(set(keys)) == len(SCALARS) + len(Lora.DESCRIPTOR.fields) + len(Preference.DESCRIPTOR.fields)
    adapter = {f"lora.{field.name}" for field in Lora.DESCRIPTOR.fields}
    preference = {f"preference.{field.name}" for field in Preference.DESCRIPTOR.fields}
    assert {key for key in keys if "." in key} == adapter | preference


@pytest.mark.parametrize("written", [{"preference": {"beta": 0.3}}, {"preference.beta": "0.3"}, {"preference_beta": 0.3}])
def test_numbers_of_preference_methods_are_written_like_those_of_the_adapter(written):
    assert build(written).preference.beta == 0.3


def test_overrides_are_taken_as_text_and_as_a_tree():
    text = '{"zero_optimization": {"overlap_comm": true}}'
    assert build({"deepspeed_overrides": text}).deepspeed_overrides == text
    assert build({"deepspeed_overrides": {"zero_optimization": {"overlap_comm": True}}}).deepspeed_overrides == text


@pytest.mark.parametrize(
    ("settings", "pairs"),
    [
        ([], {}),
        (["seed=1", "seed=2"], {"seed": "2"}),
        (["precision="], {"precision": ""}),
        (["  lora.rank  =  8  "], {"lora.rank": "8"}),
        (["a==b"], {"a": "=b"}),
    ],
)
def test_settings_are_pairs_the_last_of_a_key_counts_and_blanks_do_not(settings, pairs):
    assert parse_settings(settings) == pairs


@pytest.mark.parametrize("setting", ["", " ", "=", "  =1", "lora.rank 8"])
def test_a_setting_that_is_no_pair_is_quoted(setting):
    with pytest.raises(InvalidArgument) as caught:
        parse_settings(["seed=1", setting])
    assert caught.value.message == f"{setting} is not KEY=VALUE"
    assert caught.value.reason == "HYPERPARAMETER_INVALID"


def test_what_is_set_on_the_command_line_is_what_the_sdk_would_build():
    settings = ["learning_rate=1e-4", "lora.target_modules=q_proj, v_proj", "lora.use_rslora=yes", "num_processes=2"]
    assert build(parse_settings(settings)) == build(
        {"learning_rate": 1e-4, "num_processes": 2, "lora": {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}}
    )
