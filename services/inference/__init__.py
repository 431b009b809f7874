"""Inference service: answers with base models and with what was tuned."""
