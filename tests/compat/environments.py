"""A small environment for each client, with pinned packages, beside the project's own.

`python -m tests.compat.environments` makes all of them.
An environment is made when it is first used and kept until its lock changes.
"""

import concurrent.futures
import hashlib
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACE = ROOT / ".venv-compat"
LOCKS = pathlib.Path(__file__).with_name("locks")
NODE = "openai@6.49.0"
# Without what is optional it is a fifth, but for the database that it needs; newer ones do not run in Node.js 20.
PROMPTFOO = "promptfoo@0.121.17 @libsql/linux-x64-gnu@0.5.29"
# What packages of Node.js depend on is what there was on that day.
_DAY = "2026-11-15"


def python_of(client: str) -> pathlib.Path:
    """The interpreter of a client's environment, which is made when it is not there yet."""
    lock = LOCKS / f"{client}.txt"
    directory = PLACE / client
    if not _is_current(directory, lock.read_text()):
        shutil.rmtree(directory, ignore_errors=True)
        _run(sys.executable, "-m", "venv", "--without-pip", str(directory))
        interpreter = str(directory / "bin" / "python")
        pip = (sys.executable, "-m", "pip", "--python", interpreter, "install")
        _run(*pip, "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement", str(lock))
        _made(directory, lock.read_text())
    return directory / "bin" / "python"


def node_modules(client: str, packages: str) -> pathlib.Path:
    """The directory of an environment of Node.js; a script that stands in it finds the packages."""
    directory = PLACE / client
    if not _is_current(directory, packages):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        if not shutil.which("npm"):
            return directory
        options = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", f"--before={_DAY}")
        _run("npm", "install", *options, "--prefix", str(directory), *packages.split())
        _made(directory, packages)
    return directory


def version_of(client: str, package: str) -> str:
    """The pinned version of a package."""
    pins = dict(line.split("==") for line in (LOCKS / f"{client}.txt").read_text().split())
    return pins[package]


def _is_current(directory: pathlib.Path, wanted: str) -> bool:
    mark = directory / ".made-of"
    return mark.exists() and mark.read_text() == hashlib.sha256(wanted.encode()).hexdigest()


def _made(directory: pathlib.Path, wanted: str) -> None:
    (directory / ".made-of").write_text(hashlib.sha256(wanted.encode()).hexdigest())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=300)


def main() -> None:
    """Makes what every run of the suite needs; those of heavy clients (`nightly/`) are made when they are asked for."""
    names = sorted(path.stem for path in LOCKS.glob("*.txt"))
    # Mostly waiting for files and the network.
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for made in [*(pool.submit(python_of, name) for name in names), pool.submit(node_modules, "node", NODE)]:
            made.result()


if __name__ == "__main__":
    main()
