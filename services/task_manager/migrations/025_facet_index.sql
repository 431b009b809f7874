-- What waits to be written into it is read with every day that is looked at, so it should never be much. In a transaction of its own,
-- since who waits for the one before may have the index in use.
ALTER INDEX task_facet_keys SET (gin_pending_list_limit = 64);
