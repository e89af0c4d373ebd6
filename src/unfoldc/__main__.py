"""`python -m unfoldc` is the command line."""

import sys

from unfoldc.cli import main

if __name__ == "__main__":
    sys.exit(main())
