"""Idle OpenMP threads sleep unless the user says otherwise; read by torch when it is loaded.

Where cores are shared, spinning threads slow small convolutions down up to 30 times.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
