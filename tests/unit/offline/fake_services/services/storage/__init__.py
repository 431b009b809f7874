"""Stand-ins for the programs of the storage service: they answer as the environment says."""
