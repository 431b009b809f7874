-- How long an artifact's task wants it kept from its commit, or its return; NULL = as the server keeps everything.
ALTER TABLE artifact ADD COLUMN retention interval CHECK (retention > interval '0');
