"""Imports all that a run needs and touches no device; a warm rank does so before there is a run."""

import gc
import os

from services.common import heap
from services.trainer.training.quiet import quiet_libraries


def get_ready() -> None:
    """What has to be as it is before torch is imported; more than once does no harm."""
    quiet_libraries()
    # One pool for all threads: those of others cannot grow beyond 64 MB, and what a thread has freed another one may use. The
    # largest blocks stay apart, which keeps the heap from fragmenting.
    heap.keep_freed_memory(kept_bytes=heap.EVERYTHING, block_bytes=heap.LARGEST_BLOCK, arenas=1)
    # Threads that wait for each other must sleep, not spin: beside any other busy process, spinning made a step 7 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Nothing here is compiled. DeepSpeed imports an optimizer nobody asked for that would be, and with it torch's whole compiler:
    # two to three seconds of a processor for each rank under ZeRO.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


get_ready()
# Nothing that is imported is garbage: looking for some again and again took a tenth of the time.
gc.disable()

from services.trainer.training import assembly, export, loop, rehearsal, resume, room, samples, saver  # noqa: E402, F401
from services.trainer.training.engine import import_deepspeed  # noqa: E402

# Where there may be a GPU, DeepSpeed looks for it when it is imported.
if os.environ.get("DS_ACCELERATOR") == "cpu":
    import_deepspeed()
    # transformers imports a family when its model is loaded; these are the ones that train here as a rule.
    import transformers.models.llama.modeling_llama  # noqa: F401

gc.enable()
