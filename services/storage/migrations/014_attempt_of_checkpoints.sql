-- Which attempt of its task made a checkpoint; 0 = not told. After a retry from the start nothing older is the best.
ALTER TABLE artifact ADD COLUMN attempt int NOT NULL DEFAULT 0 CHECK (attempt >= 0);
