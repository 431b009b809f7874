"""What gRPC alone costs here: a bare server sends bytes from memory to a bare client, and nothing of ours takes part.

`python -m tests.bench.grpc_floor [--size-mb 128] [--rounds 5]`, by size of message; then with what a download that is verified
cannot do without: SHA-256 on both sides, and a file. No service that passes through gRPC here can be faster.
"""

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection

import grpc
import psutil

_METHOD = "/bench.Floor/Download"
_MIB = 2**20


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}\n")
    print(f"| messages, KiB | MiB/s: median (most) | CPU seconds for {options.size_mb} MiB: client, server |\n|---|---|---|")
    for chunk_bytes, verified in ((_MIB // 16, False), (_MIB // 4, False), (_MIB, False), (2 * _MIB, False), (_MIB, True)):
        print(_row(options.size_mb, options.rounds, chunk_bytes, verified=verified))


def _row(size_mb: int, rounds: int, chunk_bytes: int, *, verified: bool) -> str:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, size_mb * _MIB // chunk_bytes, chunk_bytes, verified), daemon=True)
    process.start()
    server = psutil.Process(process.pid)
    with grpc.insecure_channel(ours.recv(), options=[("grpc.max_receive_message_length", 16 * _MIB)]) as channel:
        measured = [_measured(channel, server, verified=verified) for _ in range(rounds + 1)][1:]  # the first one warms up
    process.terminate()
    seconds, client, served = (statistics.median(each) for each in zip(*measured, strict=True))
    most = size_mb / min(each[0] for each in measured)
    what = f"{chunk_bytes // 1024}{', both compute SHA-256, the client writes a file' if verified else ''}"
    return f"| {what} | {size_mb / seconds:.0f} ({most:.0f}) | {client:.2f}, {served:.2f} |"


def _measured(channel: grpc.Channel, server: psutil.Process, *, verified: bool) -> tuple[float, float, float]:
    """Seconds, and seconds of processor of client and server."""
    served, spent, started = sum(server.cpu_times()[:2]), time.process_time(), time.perf_counter()
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as out:
        for chunk in channel.unary_stream(_METHOD)(b""):
            if verified:
                digest.update(chunk)
                out.write(chunk)
        seconds, spent = time.perf_counter() - started, time.process_time() - spent
    return seconds, spent, sum(server.cpu_times()[:2]) - served


def _serve(ready: Connection, count: int, chunk_bytes: int, verified: bool) -> None:
    chunk = os.urandom(chunk_bytes)

    async def download(_: bytes, __: object) -> AsyncIterator[bytes]:
        digest, loop = hashlib.sha256(), asyncio.get_running_loop()
        for _ in range(count):
            hashed = loop.run_in_executor(None, digest.update, chunk) if verified else None
            yield chunk
            if hashed is not None:
                await hashed

    async def serve() -> None:
        server = grpc.aio.server()
        handlers = {"Download": grpc.unary_stream_rpc_method_handler(download)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Floor", handlers),))
        ready.send(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
