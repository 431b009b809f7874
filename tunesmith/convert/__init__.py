"""Files of other programs in Tunesmith's formats: a module per file kind and per row shape; used by `tunesmith data convert`."""
