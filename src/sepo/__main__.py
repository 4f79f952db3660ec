"""`python -m sepo`, and with it `accelerate launch -m sepo finetune ...`: the command line."""

from __future__ import annotations

import sys

from sepo.cli import main

if __name__ == "__main__":
    sys.exit(main())
