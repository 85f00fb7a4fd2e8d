"""Commands that need no option of a stage: each in a file with its arguments and what it does."""

from types import ModuleType

from pdip.commands import compare, doctor, export, info, report, validate

COMMANDS: dict[str, ModuleType] = {
    "info": info,
    "report": report,
    "export": export,
    "compare": compare,
    "validate": validate,
    "doctor": doctor,
}
"""Name -> module with ``HELP``, ``add_arguments(parser)`` and ``run(command)``, an exit code."""
