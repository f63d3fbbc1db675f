"""``python -m autoscorer``."""

import sys

from .cli.main import main

sys.exit(main())
