"""The same rows as our examples and as the tensors of TRL and transformers."""

import torch
from torch.nn.utils.rnn import pad_sequence
from training_examples import example, pair

# Lengths differ on purpose, and no prompt is another's beginning.
PAIRS = [
    pair(range(3, 15), range(20, 26), range(30, 33)),
    pair(range(40, 45), range(50, 53), range(60, 70)),
    pair(range(70, 90), range(91, 92), range(93, 97)),
    pair(range(100, 108), range(110, 125), range(130, 131)),
]
CONVERSATIONS = [example(each.texts[0].ids, each.texts[0].targets) for each in PAIRS]
TEXTS = [example(each.texts[0].ids, range(1, len(each.texts[0].ids))) for each in PAIRS]
LABELED = [example(each.texts[0].ids, label=label) for each, label in zip(PAIRS, ("b", "a", "c", "a"), strict=True)]


def padded(texts, value=0):
    """(ids, attention mask, completion mask) of token sequences, padded on the right."""
    ids = pad_sequence([torch.tensor(list(text.ids)) for text in texts], batch_first=True, padding_value=value)
    attention = pad_sequence([torch.ones(len(text.ids), dtype=torch.long) for text in texts], batch_first=True)
    completion = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        completion[row, list(text.targets)] = 1
    return ids, attention, completion


def labels(texts):
    """As transformers wants them: -100 where nothing is learned."""
    ids, _, completion = padded(texts)
    return ids.masked_fill(completion == 0, -100)
