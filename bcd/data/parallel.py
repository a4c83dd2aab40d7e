"""Work on many items by a few threads, without a million tasks waiting in memory."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_AT_ONCE = 10_000

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None) -> Iterator[Result]:
    """Yield the result of each item, in their order, from so many threads; None for Python's choice.

    The decoders and hashes that the work calls release the interpreter lock.
    """
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(items), _AT_ONCE):
            yield from pool.map(work, items[begin : begin + _AT_ONCE])
