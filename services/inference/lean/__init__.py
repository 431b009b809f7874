"""A lean forward pass for Llama and Qwen2 on a CPU with packed weights; `fits` says which models it is for."""

from services.inference.lean.fits import fits
from services.inference.lean.network import LeanNetwork

__all__ = ["LeanNetwork", "fits"]
