"""Generates tunesmith/v1 from the protos; `make protos` runs it, the freshness check generates into a scratch directory."""

import importlib.resources
import pathlib
import sys

from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent


def generate(destination: pathlib.Path) -> None:
    """Writes `tunesmith/v1/*_pb2*.py(i)` below `destination`; raises RuntimeError when a proto does not compile."""
    protos = sorted((ROOT / "protos" / "tunesmith" / "v1").glob("*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    scripts = pathlib.Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"-I{ROOT / 'protos'}",
        f"-I{well_known}",
        f"--python_out={destination}",
        f"--grpc_python_out={destination}",
        f"--mypy_out={destination}",
        f"--mypy_grpc_out={destination}",
        *map(str, protos),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed; see above")


if __name__ == "__main__":
    generate(ROOT)
    (ROOT / "tunesmith" / "v1" / "__init__.py").touch()
    sys.exit(0)
