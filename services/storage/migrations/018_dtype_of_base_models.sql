-- Number format of most of the weights, as safetensors names it; empty = registered before this was asked.
ALTER TABLE base_model ADD COLUMN dtype text NOT NULL DEFAULT '' CHECK (char_length(dtype) <= 32);
