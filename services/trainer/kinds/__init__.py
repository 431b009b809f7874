"""What runs of each kind need, execute and leave behind; a module per kind, and the table of them all."""
