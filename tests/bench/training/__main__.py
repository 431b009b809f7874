"""Training speed beside its peers: `python -m tests.bench.training [--rounds 2] [--steps 4] [--batch 32] [--full-steps 3]`.

All variants start from the same weights and see the same rows in the same order (packing and grouping by length excepted, which
choose their own). They take turns, each in a process of its own, round by round; of every step the shortest time counts, so a
busy neighbour disturbs all alike. Needs chat rows (TUNESMITH_BENCH_DATA) and the packages of `make setup`. Takes about
ten minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.bench.training import report
from tests.bench.training.gate import verdicts
from tests.bench.training.job import Job, Measured, import_model, write_rows
from tests.bench.training.result import Result
from tests.bench.training.work import flops_per_step
from tests.bench.training.worker import OURS

DEFAULTS = "TRL, its defaults"
LORA = ("TRL padding_free", "TRL packing", "transformers group_by_length", DEFAULTS)
FULL = (OURS, "TRL padding_free")


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory() as directory:
        rows = Path(directory) / "rows.jsonl"
        write_rows(rows, options.batch * max(options.steps, options.full_steps))
        model = options.model or import_model(Path(directory) / "model")
        job = Job(OURS, "lora", str(model), str(rows), options.batch, options.micro_batch, options.steps)
        print(report.heading(), flush=True)
        peaks: list[float] = []
        some = {f"{OURS}, adapters in the last {count} layers": replace(job, last_layers=count) for count in options.last_layers}
        lora = _measure({OURS: job} | some | dict.fromkeys(LORA, job), options.rounds, peaks)
        print(f"\nLoRA, rank 8, all linear layers, fp32, {job.batch} rows a step:\n\n{report.table(lora, OURS)}", flush=True)
        whole = replace(job, tuning="full", steps=options.full_steps)
        full = _measure(dict.fromkeys(FULL, whole), options.rounds, peaks)
        print(f"\nFull tuning:\n\n{report.table(full, OURS)}\n", flush=True)
        shares = [flops_per_step(each) / found[OURS].seconds_per_step for each, found in ((job, lora), (whole, full))]
    print(f"fp32 matrix peak {max(peaks) / 1e9:.0f} GFLOP/s; ours, LoRA and full: {[round(share / 1e9) for share in shares]}\n")
    for line in verdicts(lora, full, OURS, DEFAULTS, shares[0] / max(peaks)):
        print(f"- {line}")


def _measure(jobs: Mapping[str, Job], rounds: int, peaks: list[float]) -> dict[str, Result]:
    """By variant. Round by round, so that a slow minute of the machine hits no variant alone; the machine's peak beside each."""
    found: dict[str, list[Measured]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            peaks.append(float(_output("tests.bench.training.peak")))
            found[name].append(Measured.from_json(_output("tests.bench.training.worker", replace(job, variant=name).to_json())))
    return {name: Result.of(each) for name, each in found.items()}


def _output(module: str, *arguments: str) -> str:
    """The last line of the module's output."""
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stderr[-4000:]}")
    return done.stdout.splitlines()[-1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of LoRA, the first not timed")
    parser.add_argument("--full-steps", type=int, default=3, help="the same for full tuning")
    parser.add_argument("--batch", type=int, default=32, help="rows of an optimizer step")
    parser.add_argument("--micro-batch", type=int, default=8, help="rows a peer computes at a time")
    parser.add_argument(
        "--last-layers", type=int, nargs="*", default=(6, 8, 10), help="further rows of ours: adapters in so many layers alone"
    )
    parser.add_argument("--model", type=Path, help="directory of the model; default = SmolLM2 135M is converted first")
    return parser.parse_args()


if __name__ == "__main__":
    main()
