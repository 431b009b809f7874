-- Of an active task: after so long a silence its trainer has ended the run by itself; NULL = it goes on.
ALTER TABLE task ADD COLUMN fenced_after interval;
