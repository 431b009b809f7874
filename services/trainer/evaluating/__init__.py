"""How good answers are: scores of rows, their intervals and verdicts. Pure functions; no network, no torch."""
