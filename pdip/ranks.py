"""Several processes of one run, started by torchrun: each does its share, all hold the results.

Every process, a rank, walks through the whole program with the same seeds and the same algebra.
Only what is expensive and falls into independent parts is dealt out, with the parts that one
process would make, so that the numbers are those of one process. Outside of :func:`together`, and
in threads, a process is alone: rank 0 of 1.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps

import torch
import torch.distributed as dist
from torch import Tensor

from pdip.errors import ComputationError

ENVIRONMENT = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""What torchrun tells each process."""

ANSWER_TIME = timedelta(minutes=10)
"""For work in which ranks have equal shares. One that dies is noticed at once, this is for one
that hangs."""

PATIENCE = timedelta(days=1)
"""For work in which a rank may have nothing to do, such as fits of fewer networks than ranks."""


class LostRank(ComputationError):
    """Another process of the run died or does not answer (exit code 1)."""


@dataclass(frozen=True)
class Team:
    """The processes of one run as one of them sees them.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.
        local_rank: which one this is on its machine; the number of its GPU.
        store: the key-value store in which they met.
        objects: the gloo group through which anything but GPU tensors travels.
    """

    rank: int
    count: int
    local_rank: int
    store: dist.Store
    objects: dist.ProcessGroup


_team: ContextVar[Team | None] = ContextVar("team", default=None)


def rank() -> int:
    """The number of this process, from 0."""
    team = _team.get()
    return 0 if team is None else team.rank


def count() -> int:
    """How many processes the run has."""
    team = _team.get()
    return 1 if team is None else team.count


def local_rank() -> int:
    """The number of this process on its machine, from 0."""
    team = _team.get()
    return 0 if team is None else team.local_rank


@contextmanager
def together() -> Iterator[None]:
    """The processes that torchrun started become ranks of one run; without torchrun, nothing.

    The cores of a machine are divided among its ranks unless OMP_NUM_THREADS gives each more
    than the one that torchrun sets.

    Raises:
        LostRank: they do not all come.
    """
    if not os.environ.keys() >= ENVIRONMENT or int(os.environ["WORLD_SIZE"]) < 2:
        yield
        return
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
    with _answering():
        store, number, size = next(dist.rendezvous("env://", timeout=ANSWER_TIME))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, store=store, rank=number, world_size=size, timeout=ANSWER_TIME
        )
        objects = dist.new_group(backend="gloo", timeout=PATIENCE)
    token = _team.set(Team(number, size, int(os.environ["LOCAL_RANK"]), store, objects))
    try:
        yield
    finally:
        _team.reset(token)
        dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Within, this process does everything itself, as it must where others do something else."""
    token = _team.set(None)
    try:
        yield
    finally:
        _team.reset(token)


def share(items: Sequence) -> Sequence:
    """This rank's part of what there is to do: neighbours, as many as the others' or one more."""
    return _share(items, rank())


def gather(items: Sequence) -> list:
    """The items of all ranks in their order, on every rank; the inverse of :func:`share`.

    Items are what pickle takes; tensors on a GPU arrive on that of the rank.
    """
    if count() == 1:
        return list(items)
    return [item for source in range(count()) for item in _heard(list(items), source)]


def by_first(function: Callable) -> Callable:
    """The function called on the first rank alone: what it returns or raises, all ranks do."""

    @wraps(function)
    def shared(*arguments, **keywords):
        if count() == 1:
            return function(*arguments, **keywords)
        result, error = None, None
        if rank() == 0:
            try:
                with alone():
                    result = function(*arguments, **keywords)
            except Exception as raised:
                error = raised
        result, error = _heard((result, error), 0)
        if error is not None:
            raise error
        return result

    return shared


def mapped(function: Callable[[Tensor], Tensor], chunks: Sequence[Tensor], core_shape) -> Tensor:
    """``function`` of every chunk, one below the other; each rank computes a share of the chunks.

    A single chunk is computed by every rank: it is done sooner than it is split and sent.

    Args:
        function: from a chunk (j, ...) to (j, *core_shape), in the chunk's precision.
        chunks: what there is to do, the same on every rank.
        core_shape: of one result.

    Raises:
        ComputationError: the ranks do not ask for the same.
        LostRank: one of them is gone.
    """
    sizes = [len(chunk) for chunk in chunks]
    out = chunks[0].new_empty(sum(sizes), *core_shape)
    jobs = list(zip(chunks, out.split(sizes), strict=True))
    split = count() > 1 and len(jobs) > 1
    for chunk, place in share(jobs) if split else jobs:
        place.copy_(function(chunk))
    if split:
        _check_same(out.shape)
        with _answering():
            for source in range(count()):
                rows = sum(_share(sizes, source))
                first = sum(sum(_share(sizes, before)) for before in range(source))
                if rows:
                    dist.broadcast(out[first : first + rows], src=source)
    return out


def speaks() -> bool:
    """Whether this rank is the first that asks: one of those that end says why, not all."""
    team = _team.get()
    try:
        return team is None or team.store.add("spoken", 1) == 1
    except RuntimeError:  # the store has gone with its process
        return True


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _share(items: Sequence, number: int) -> Sequence:
    first, last = (-(-len(items) * n // count()) for n in (number, number + 1))
    return items[first:last]


def _objects() -> dist.ProcessGroup:
    team = _team.get()
    assert team is not None, "only several ranks exchange anything"
    return team.objects


def _heard(value, source: int):
    """The value of the rank ``source``, on every rank."""
    message = [b""]
    if rank() == source:
        packed = io.BytesIO()
        torch.save(value, packed)
        message = [packed.getvalue()]
    with _answering():
        dist.broadcast_object_list(message, src=source, group=_objects())
    if rank() == source:
        return value
    return torch.load(io.BytesIO(message[0]), map_location=_here, weights_only=False)


def _here(storage, location: str):
    return storage.cuda(local_rank()) if location.startswith("cuda") else storage


def _check_same(shape) -> None:
    """Raise ComputationError unless all ranks are about to exchange tensors of this shape."""
    own = torch.tensor([shape[0], shape[1:].numel()])
    all_shapes = [torch.empty_like(own) for _ in range(count())]
    with _answering():
        dist.all_gather(all_shapes, own, group=_objects())
    if not all(torch.equal(own, other) for other in all_shapes):
        raise ComputationError(
            "the processes of this run came to different numbers and cannot go on together; use "
            "machines of one kind, or one process"
        )


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRank("another process of this run died or does not answer") from error
