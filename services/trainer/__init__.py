"""The trainer: a gRPC face that supervises runs, and the training process they consist of."""
