"""Writing speed beside its peers: `python -m tests.bench.inference [--model DIRECTORY] [--rounds 3] [--tokens 48] [--threads N]`.

All contenders have the same fp32 weights (the option bfloat16 is called so) and take turns, round by round, so that a busy
neighbour disturbs all alike; the best round counts, and tokens per second of processor time stand beside it. Reading the prompts
is part of it. Ours is in a process of its own, as the service starts it; the others are in this one, with threads that spin as
shortly as ours. vLLM takes part if TUNESMITH_BENCH_VLLM_PYTHON names the interpreter of its environment.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import psutil
import torch

from tests.bench.inference import contenders
from tests.bench.inference.adapters import load_all, write_adapters
from tests.bench.inference.waiting import first_tokens
from tests.bench.training.job import import_model

_ADAPTERS = 4
Measured = dict[str, tuple[float, float]]


def main() -> None:
    """Measure and print."""
    options = _options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as directory:
        model = options.model = options.model or import_model(Path(directory) / "model")
        print(f"load {os.getloadavg()[0]:.1f}, {options.threads} threads, {options.tokens} tokens each\n", flush=True)
        engine = contenders.engine_of(model, options.threads)
        plain = contenders.plain_model(model)
        # First, since an engine that has worked has memory to spare, in which adapters would seem to cost nothing.
        seconds, size = load_all(engine, write_adapters(model, Path(directory), _ADAPTERS))
        print(f"loading an adapter: {max(seconds):.2f} s at most; memory of one more: {size / 2**20:.1f} MiB\n", flush=True)
        _print_speeds(_measure(_peers(engine, plain, options), options.rounds))
        _print_speeds(_measure(_mixed(engine, options), options.rounds))
        waited = first_tokens(engine, _prompts(40), clients=8, count=options.tokens)
        middle, last = waited[len(waited) // 2], waited[-1]
        print(f"\nfirst token, 8 clients, {len(waited)} questions: p50 {middle:.2f} s, p99 {last:.2f} s")
        print(f"load {os.getloadavg()[0]:.1f}")


def _peers(engine: object, plain: object, options: argparse.Namespace) -> dict[str, tuple[contenders.Write, int]]:
    llama = contenders.llama_cpp(options.tokens, options.threads)
    vllm = contenders.vllm_engine(options.model, options.threads)
    half = contenders.ours(contenders.engine_of(options.model, options.threads, half=True), options.tokens)
    half_plain = contenders.generate(contenders.plain_model(options.model, torch.bfloat16), options.tokens)
    return {
        "ours, 1 stream": (contenders.ours(engine, options.tokens), 1),
        "generate, 1 stream": (contenders.generate(plain, options.tokens), 1),
        **({"llama.cpp, 1 stream": (llama, 1)} if llama else {}),
        **({f"vLLM, {n} streams": (contenders.ours(vllm, options.tokens), n) for n in (1, 8)} if vllm else {}),
        **{f"ours in bfloat16, {n} streams": (half, n) for n in (1, 8)},
        **{f"`generate` in bfloat16, {n} streams": (half_plain, n) for n in (1, 8)},
        "ours, 8 streams": (contenders.ours(engine, options.tokens), 8),
        "generate, 8 streams, one padded batch": (contenders.generate(plain, options.tokens), 8),
        "generate, 8 streams, one after the other": (_one_by_one(contenders.generate(plain, options.tokens)), 8),
        "generate_batch, 8 streams": (contenders.continuous(plain, options.tokens), 8),
    }


def _mixed(engine: object, options: argparse.Namespace) -> dict[str, tuple[contenders.Write, int]]:
    names = [f"artifacts/{number}" for number in range(_ADAPTERS)]
    each = [contenders.ours(engine, options.tokens, [name]) for name in names]

    def in_turn(prompts: contenders.Prompts) -> int:
        return sum(write(prompts[index::_ADAPTERS]) for index, write in enumerate(each))

    return {
        "8 questions to 4 adapters, together": (contenders.ours(engine, options.tokens, names), 8),
        "8 questions to 4 adapters, adapter by adapter": (in_turn, 8),
        "8 questions to the base": (contenders.ours(engine, options.tokens), 8),
    }


def _one_by_one(write: contenders.Write) -> contenders.Write:
    return lambda prompts: sum(write([prompt]) for prompt in prompts)


def _measure(variants: dict[str, tuple[contenders.Write, int]], rounds: int) -> Measured:
    """Best tokens per second on the wall clock, and per second of processor time."""
    found: Measured = {}
    for _ in range(rounds):
        for name, (write, streams) in variants.items():
            with _silence():
                rates = _rates(write, _prompts(streams))
            best = found.get(name, (0.0, 0.0))
            found[name] = max(best[0], rates[0]), max(best[1], rates[1])
    return found


def _rates(write: Callable[[contenders.Prompts], int], prompts: contenders.Prompts) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), _processor_seconds()
    count = write(prompts)
    return count / (time.perf_counter() - wall), count / (_processor_seconds() - cpu)


def _processor_seconds() -> float:
    """Of this process and of those of the engines."""
    used = [process.cpu_times() for process in psutil.Process().children()]
    return time.process_time() + sum(each.user + each.system for each in used)


def _prompts(count: int) -> contenders.Prompts:
    """Of 24 to 66 tokens, alike in every run."""
    return [tuple(1000 + (37 * row + 11 * place) % 20_000 for place in range(24 + 6 * (row % 8))) for row in range(count)]


def _print_speeds(found: Measured) -> None:
    print("| | tokens/s | tokens per CPU second |\n|---|---|---|")
    for name, (wall, cpu) in found.items():
        print(f"| {name} | {wall:.0f} | {cpu:.0f} |", flush=True)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Peers announce much."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        yield


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a model directory; default: SmolLM2 135M, imported")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
