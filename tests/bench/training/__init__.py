"""How fast training is beside TRL and the Trainer of transformers; run by `make bench`, see `__main__`."""
