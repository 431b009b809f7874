"""What can go wrong while a local stack is started, used or stopped; the command line prints these."""


class LocalError(Exception):
    """A local stack cannot do what was asked; carries what happened and what to do about it."""

    def __init__(self, reason: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
