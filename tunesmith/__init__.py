"""What other Python programs import: the SDK."""
