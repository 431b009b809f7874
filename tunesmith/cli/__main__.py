"""`python -m tunesmith.cli`: how a background stack is started."""

from tunesmith.cli import main

if __name__ == "__main__":
    main()
