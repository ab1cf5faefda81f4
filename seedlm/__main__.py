"""``python -m seedlm``."""

import sys

from seedlm.cli import main

sys.exit(main())
