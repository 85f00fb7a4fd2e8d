from pdip.cli import main

raise SystemExit(main())
