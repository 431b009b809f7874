"""Exports in Postgres and S3, and that what was exported needs nothing of ours."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from integration.inference.peft_reference import write_adapter
from tiny_model import make_tiny_model
from unit.storage.export_stream_suite import ExportStreamSuite
from unit.storage.export_suite import ExportSuite
from unit.storage.service import Service

pytestmark = pytest.mark.integration

LOAD = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("services", "tunesmith"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter = sys.argv[1:]
ids = torch.tensor([[5, 6, 7, 8]])
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
with torch.inference_mode():
    plain = model(ids).logits
    tuned = PeftModel.from_pretrained(model, adapter)(ids).logits
print("differs" if (plain - tuned).abs().max() > 1e-3 else "same")
"""


class TestExport(ExportSuite):
    """All rules of the suite."""


class TestExportStream(ExportStreamSuite):
    """All rules of the suite."""


@pytest.mark.filterwarnings("ignore::FutureWarning")
async def test_peft_and_transformers_load_an_export_without_us(service: Service, tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    made = await asyncio.to_thread(write_adapter, base, tmp_path / "adapter", seed=1, target_modules=["q_proj", "v_proj"], rank=4)
    artifact = await service.store_artifact({path.name: path.read_bytes() for path in sorted(made.iterdir())})
    version = await service.export(artifact.name, description="a test")
    target = tmp_path / "downloaded"
    target.mkdir()
    for file in version.manifest.files:
        (target / file.path).write_bytes(await service.download_model(version.name, file.path))
    assert "README.md" in {path.name for path in target.iterdir()}
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    command = [sys.executable, "-I", "-c", LOAD, str(base), str(target)]
    done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.decode().split() == ["differs"]
