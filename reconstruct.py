import sys

from pdip.cli import main

raise SystemExit(main(["reconstruct", *sys.argv[1:]]))
