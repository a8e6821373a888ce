"""`python -m tilewright.tools.cli` is the command `tilewright`."""

from tilewright.tools.cli import main

# Code generation starts worker processes, which import this module again under another name.
if __name__ == "__main__":
    main()
