"""What is wrong with a row or a file; raised by every check of this package, turned into a violation by `checker`."""


class RowProblem(Exception):
    """The first thing wrong with a row.

    `path` is the place in the row (empty = the whole row), `reason` a code from the catalogue, `offset` the 0-based character of
    the row's text (-1 = not known). `hint` replaces the hint of the catalogue.
    """

    def __init__(self, reason: str, path: str, message: str, *, offset: int = -1, hint: str = "") -> None:
        super().__init__(message)
        self.reason, self.path, self.message, self.offset, self.hint = reason, path, message, offset, hint


class FileProblem(Exception):
    """Something that ends the check of the whole file; no budget covers it. `line` and `column` are 1-based, 0 = not known."""

    path = ""

    def __init__(self, reason: str, message: str, *, line: int = 0, column: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.line, self.column, self.hint = reason, message, line, column, hint
