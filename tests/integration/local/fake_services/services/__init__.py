"""Stand-ins for the services: the same command lines, settings and health, nothing behind them."""
