"""``python -m pdip``: the command ``pdip``, where it is not on the path."""

from pdip.cli import main

raise SystemExit(main())
