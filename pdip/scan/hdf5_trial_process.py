"""The process in which HDF5 files are read first: run by its path, so that torch is not loaded.

    python -P hdf5_trial_process.py SECONDS MEBIBYTES

Each line of stdin is a file, as a JSON text. It is opened, and its names, links, attributes and
values are read as :mod:`pdip.scan.hdf5` reads them; of large data sets one value is. The answer is
a line of JSON: ``broken``, why the file cannot be listed, or ``unread``, what in it cannot be read:
[address of the object, name of the attribute or nothing, why]. What asks for more memory than so
many MiB is among it. Where a file takes more than so many seconds of processor time, SIGPROF ends
the process, within the HDF5 library as well.
"""

import json
import math
import resource
import signal
import sys

import h5py
import hdf5plugin as hdf5plugin  # its compressions are known to h5py from here on

MAX_OBJECTS = 10_000
WHOLE_BYTES = 2**24
"""Data sets and chunks up to this size are read whole, together four times as much (16 MiB)."""


def main(seconds: float, mebibytes: int) -> None:
    """Answer for each file that is named on stdin."""
    limit_memory(mebibytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for line in sys.stdin:
        # Processor time, not the clock: a slow disk or a busy machine is no damage.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer = tried(json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


def limit_memory(mebibytes: int) -> None:
    """Let the process have so much more memory than it has now."""
    if sys.platform == "linux":  # elsewhere the address space says nothing of memory
        with open("/proc/self/statm") as pages:
            used = int(pages.read().split()[0]) * resource.getpagesize()
        most = used + mebibytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def tried(path: str) -> dict:
    """What cannot be read of a file."""
    unread, left = [], 4 * WHOLE_BYTES

    def read(address: int, name: str, reading, *arguments) -> int | None:
        try:
            return reading(*arguments)
        except Exception as error:  # h5py raises whatever it likes
            unread.append([address, name, str(error) or type(error).__name__])
            return 0

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            for address, item in objects(file).items():
                for name in list(item.attrs):
                    read(address, name, read_attribute, item, name)
                if isinstance(item, h5py.Dataset):
                    left -= read(address, "", read_values, item, left)
    except Exception as error:
        return {"broken": str(error) or type(error).__name__, "unread": []}
    return {"broken": None, "unread": unread}


def objects(file: h5py.File) -> dict:
    """The file, and all groups and data sets that hard links lead to, by their addresses."""
    found, open_groups = {h5py.h5o.get_info(file.id).addr: file}, [file]
    while open_groups and len(found) < MAX_OBJECTS:
        group = open_groups.pop()
        for item in filter(None, (linked(group, name) for name in group)):
            address = h5py.h5o.get_info(item.id).addr
            if address not in found:
                found[address] = item
                if isinstance(item, h5py.Group):
                    open_groups.append(item)
    return found


def linked(group: h5py.Group, name: str):
    """What a hard link leads to, else None; where a soft one leads is read, but not followed."""
    kind = group.id.links.get_info(name.encode()).type
    if kind == h5py.h5l.TYPE_SOFT:
        group.id.links.get_val(name.encode())
    return group[name] if kind == h5py.h5l.TYPE_HARD else None


def is_read(dtype) -> bool:
    """Whether values of the type are read at all: numbers and texts."""
    return dtype.kind in "iufSU" or h5py.check_string_dtype(dtype) is not None


def read_attribute(item, name: str) -> None:
    """Read an attribute that the readers would."""
    if is_read(item.attrs.get_id(name).dtype):
        item.attrs[name]


def read_values(item: h5py.Dataset, left: int) -> int:
    """Read a small data set, one value of a large one, and nothing from another file.

    Args:
        item: the data set.
        left: bytes up to which it is small, if less than usual.

    Returns:
        the bytes that were read, of a small one.
    """
    if item.is_virtual or item.id.get_create_plist().get_external_count() or item.shape is None:
        return 0
    item.id.get_storage_size()  # walks through the index of all chunks
    chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
    if not is_read(item.dtype) or chunk > WHOLE_BYTES or not item.size:
        return 0
    whole = item.nbytes <= min(WHOLE_BYTES, left)
    item[() if whole else (0,) * item.ndim]
    return item.nbytes if whole else 0


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
