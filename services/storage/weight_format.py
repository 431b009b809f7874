"""The number format of a model's weights, from the headers of its safetensors files; used when a base model is registered."""

import collections
import math
from collections.abc import Sequence

from services.storage.file import StoredFile
from services.storage.object_store import ObjectStore
from services.storage.safetensors_header import read_first_tensors


async def dtype_of(store: ObjectStore, files: Sequence[StoredFile]) -> str:
    """The format in which most numbers are, for example `F16`; empty without weights.

    Only headers are read, which have been checked while the files came in. Raises Unavailable.
    """
    numbers: collections.Counter[str] = collections.Counter()
    for file in files:
        if file.path.endswith(".safetensors"):
            tensors = await read_first_tensors(store.read(file.object_key, 0, file.size_bytes), file.size_bytes)
            for tensor in tensors.values():
                numbers[tensor.dtype] += math.prod(tensor.shape)
    return max(numbers, key=lambda dtype: (numbers[dtype], dtype), default="")
