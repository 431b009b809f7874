"""Our losses and gradients are those of transformers' own models where it has the loss."""

import torch
from training_pairs import CONVERSATIONS, LABELED, TEXTS, labels, padded


def test_cpt_is_the_causal_loss_of_whole_texts(model, ours, equal):
    mine = ours("cpt", TEXTS)
    ids, attention, _ = padded([each.texts[0] for each in TEXTS])
    targets = ids.masked_fill(attention == 0, -100)
    equal(model, lambda: mine.loss(model), lambda: model(input_ids=ids, attention_mask=attention, labels=targets).loss)


def test_sft_is_the_causal_loss_of_the_answers(model, ours, equal):
    mine = ours("sft", CONVERSATIONS)
    texts = [each.texts[0] for each in CONVERSATIONS]
    ids, attention, _ = padded(texts)
    equal(model, lambda: mine.loss(model), lambda: model(input_ids=ids, attention_mask=attention, labels=labels(texts)).loss)


def test_classification_is_the_loss_of_a_sequence_classifier(classifier, ours, equal):
    mine = ours("classification", LABELED)
    ids, attention, _ = padded([each.texts[0] for each in LABELED], value=classifier.config.pad_token_id)
    classes = torch.tensor([1, 0, 2, 0])
    equal(
        classifier,
        lambda: mine.loss(classifier),
        lambda: classifier(input_ids=ids, attention_mask=attention, labels=classes).loss,
    )
    logits = classifier(input_ids=ids, attention_mask=attention).logits
    assert mine.metrics["accuracy"] == (logits.argmax(-1) == classes).float().mean()
