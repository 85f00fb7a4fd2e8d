"""The two ways a run can end without a result, and the exit code of each.

Every message is one sentence: what was expected, what was found, what to do.
"""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, for which torch has two ways of its own, and the
    loader of libraries another."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, ImportError):
        return "failed to map segment" in str(error) or "cannot allocate memory" in str(error)
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


class InputError(ValueError):
    """What the user gave cannot be used (exit code 2): file, geometry, scan, setting or mask."""


class ComputationError(RuntimeError):
    """The input was fine but the computation has no honest result (exit code 1).

    Raised for fits that died, solves that did not converge, covariances that are not positive
    definite. A number that did not converge is never returned in its place.
    """


class OutputError(ComputationError):
    """A file of the run cannot be written (exit code 1): no room, or no right to.

    The message says which and why; what can be done depends on who catches it.
    """
