"""What tasks of each kind ask for, and what becomes of it; a module per kind."""
