"""`python -m synthct`: the same as the command `synthct`."""

import sys

from synthct.cli.main import main

sys.exit(main())
