"""`python -m landscape`: the command line without an installed script."""

import sys

from landscape.cli import main

if __name__ == "__main__":
    sys.exit(main())
