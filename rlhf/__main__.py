"""`python -m rlhf COMMAND`: the console script where none is installed."""

from __future__ import annotations

import sys

from rlhf.cli import main

if __name__ == "__main__":
    sys.exit(main())
