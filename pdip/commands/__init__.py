"""Commands that need no option of a stage: each in a file with its arguments and what it does."""

from types import ModuleType

from pdip.commands import compare, completion, doctor, export, info, report, simulate, validate

COMMANDS: dict[str, ModuleType] = {
    "simulate": simulate,
    "info": info,
    "report": report,
    "export": export,
    "compare": compare,
    "validate": validate,
    "doctor": doctor,
    "completion": completion,
}
"""Name -> module with ``HELP``, ``EXAMPLE``, ``add_arguments(parser)`` and ``run(command)``, which
returns an exit code."""
