"""The processes that train one model together, and what they tell each other.

Each of them runs the whole training: the same rows in the same order, the same random draws, the same steps. Only the
rows of a forward pass are dealt out, and the gradients, which are those of prompt and head alone and so are small, are
added up before each step. So the model is the one that a process alone would make, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed

from ptec_udf.errors import TrainingError, UserError

T = TypeVar("T")
ItemT = TypeVar("ItemT")


class ProcessLostError(TrainingError):
    """Raised in a process that waits for another one which has ended."""


@dataclass(frozen=True)
class Group:
    """Processes that train together; torch's process group must be there where they are several.

    Attributes:
        rank: number of this process; 0 decides, reports and writes.
        size: number of processes; where it is 1, nothing is sent.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that decides, reports and writes."""
        return self.rank == 0

    def deal(self, n_rows: int) -> list[int]:
        """Return the rows that are this process's; one after the other goes to each, so that lengths are even."""
        return list(range(self.rank, n_rows, self.size))

    def add_up(self, loss: float, parameters: Sequence[torch.nn.Parameter]) -> float:
        """Add up the parameters' gradients over all processes, in place, and the loss.

        Returns:
            The loss of all.
        """
        if self.size == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # One message for all; on the processor, since only this way every kind of machine can send it.
        parts = [*(gradient.reshape(-1).cpu() for gradient in gradients), torch.tensor([loss])]
        message = torch.cat(parts)
        with _others_there():
            distributed.all_reduce(message)
        *sums, total = message.split([len(part) for part in parts])
        for gradient, value in zip(gradients, sums, strict=True):
            gradient.copy_(value.view_as(gradient))
        return total.item()

    def over(self, work: Callable[[list[ItemT]], np.ndarray], items: Sequence[ItemT]) -> np.ndarray:
        """Let each process work on its share of the items.

        Args:
            work: items to an array with a row for each.
            items: all of them.

        Returns:
            The rows of all items, in order, in every process.
        """
        if self.size == 1 or len(items) < self.size:
            return work(list(items))
        shares = self.gathered(work([items[at] for at in self.deal(len(items))]))
        rows = np.empty((len(items), *shares[0].shape[1:]), dtype=shares[0].dtype)
        for rank, share in enumerate(shares):
            rows[rank :: self.size] = share
        return rows

    def agreed(self, value: T) -> T:
        """Return the first process's value, by which all go on."""
        if self.size == 1:
            return value
        values = [value]
        with _others_there():
            distributed.broadcast_object_list(values)
        return values[0]

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with _others_there():
                distributed.all_gather_object(values, value)
        return values

    @torch.no_grad()
    def level(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put the first process's values into the tensors; other kinds of processors round otherwise."""
        if self.size == 1:
            return
        for tensor in tensors:
            value = tensor.detach().cpu().contiguous()
            with _others_there():
                distributed.broadcast(value, src=0)
            tensor.copy_(value)

    def all_or_none(self, work: Callable[[], T]) -> T:
        """Do what may be impossible in some processes only, such as finding a file.

        Raises:
            UserError: in every process, what the first one found that failed.
        """
        faults: list[UserError | None]
        try:
            done = work()
        except UserError as error:
            faults = self.gathered(error)
        else:
            faults = self.gathered(None)
        for fault in faults:
            if fault is not None:
                raise fault
        return done


ALONE = Group()


@contextmanager
def _others_there() -> Iterator[None]:
    """Name the cause where another process does not answer."""
    try:
        yield
    except RuntimeError:
        raise ProcessLostError("another process of this training has ended") from None
