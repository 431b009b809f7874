"""The command `tunesmith`; one module per noun. Nothing slow is imported before a command needs it."""


def main() -> None:
    """Entry point of the installed command."""
    from tunesmith.cli.app import app

    app(prog_name="tunesmith")
