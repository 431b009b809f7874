"""The goals, and which of them a measurement has reached."""

from collections.abc import Iterator, Mapping

from tests.bench.training.result import Result, same_curve

BEST_PEER, DEFAULTS, OF_PEAK, FULL = 2.5, 6.0, 0.75, 1.5
COMPARABLE = {"TRL padding_free", "TRL, its defaults"}
"""Peers that see the same batches."""
# Of each step's loss; a peer's default computes in bf16.
_CURVE = 0.02


def verdicts(lora: Mapping[str, Result], full: Mapping[str, Result], ours: str, defaults: str, of_peak: float) -> Iterator[str]:
    """One line per goal (names that begin with `ours` are options of ours): reached or missed, and by how much."""
    ratios = {name: lora[ours].targets_per_second / result.targets_per_second for name, result in lora.items()}
    peers = {name: ratio for name, ratio in ratios.items() if name != defaults and not name.startswith(ours)}
    best = min(peers, key=lambda name: peers[name])
    yield _verdict(f"LoRA beside the best peer, {best}", peers[best], BEST_PEER, "x")
    yield _verdict(f"LoRA beside {defaults}", ratios[defaults], DEFAULTS, "x")
    yield _verdict("share of the fp32 matrix peak", of_peak, OF_PEAK, "")
    for name, ratio in ratios.items():
        # An option of ours, judged by the same goals.
        if name.startswith(ours) and name != ours:
            yield _verdict(f"{name}, beside {defaults}", ratios[defaults] / ratio, DEFAULTS, "x")
            yield _verdict(f"{name}, beside the best peer", peers[best] / ratio, BEST_PEER, "x")
    memory = lora[best].peak_rss / lora[ours].peak_rss
    yield _verdict(f"memory of {best} over ours", memory, 1.0, "x")
    theirs = {name: full[ours].targets_per_second / result.targets_per_second for name, result in full.items() if name != ours}
    peer = min(theirs, key=lambda name: theirs[name])
    yield _verdict(f"full tuning beside {peer}", theirs[peer], FULL, "x")
    for kind, results in (("LoRA", lora), ("full tuning", full)):
        for name in COMPARABLE & results.keys():
            same = same_curve(results[ours].losses, results[name].losses, _CURVE)
            yield f"{kind}: {'the same' if same else 'ANOTHER'} loss curve as {name}"


def _verdict(what: str, found: float, wanted: float, unit: str) -> str:
    return f"{'reached' if found >= wanted else 'MISSED '} {what}: {found:.2f}{unit} of {wanted:g}{unit}"
