"""Work on many items by a few threads, without a million tasks waiting in memory."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_AT_ONCE = 10_000

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None) -> Iterator[Result]:
    """Yield the result of each item, in their order.

    Args:
        work: what to do; the decoders and hashes that it calls release the interpreter lock.
        items: what to do it with.
        threads: how many at a time; None for Python's choice.
    """
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(items), _AT_ONCE):
            yield from pool.map(work, items[begin : begin + _AT_ONCE])
