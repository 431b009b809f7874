-- What was counted by a renderer that nobody knows any more is counted again when it is asked for.
DELETE FROM token_statistics;
ALTER TABLE token_statistics ADD COLUMN renderer text NOT NULL;
ALTER TABLE token_statistics DROP CONSTRAINT token_statistics_pkey;
ALTER TABLE token_statistics ADD PRIMARY KEY (rows_sha256, base_model_revision, max_seq_length, renderer);
