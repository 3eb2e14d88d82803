"""Pictures of many requests to runs of the model, in bounded memory and in turns.

What comes in together is judged together: whenever a worker is free it takes up to `CHUNK` pictures, some of each
request that waits, in turns, so that one cell does not wait behind a thousand of somebody else's. A worker does all
of it, reading, decoding, resizing and one run of the model, as `giemsa classify` does.

All the book-keeping is done in the event loop, so that there are no locks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from giemsa.classifier import CHUNK
from giemsa.errors import GiemsaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from giemsa.classifier import Classifier, Examined
    from giemsa.sources import Source

Result = TypeVar("Result")


class QueueFullError(GiemsaError, RuntimeError):
    """More pictures wait for the model than the server takes on."""


@dataclass(eq=False, slots=True)
class _Job:
    """The pictures of one request: which are waiting, and what came of the others."""

    pictures: Sequence[Source]
    shown_px: int
    finish: Callable[[Examined], Any]
    ready: Callable[[int, list[Any]], None]
    done: asyncio.Future[list[Any]]
    taken: int = 0
    told: int = 0
    results: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Fault:
    """What went wrong, whatever it was, in the place of a result."""

    error: Exception


class Batcher:
    """Runs a classifier for many requests at once.

    Parameters
    ----------
    classifier : Classifier
        Its `threads` is how many runs there are at a time.
    capacity : int
        Most pictures that wait at a time.
    on_run : callable, optional
        Told the number of pictures of each run.
    """

    def __init__(
        self, classifier: Classifier, *, capacity: int, on_run: Callable[[int], None] = lambda _count: None
    ) -> None:
        self.classifier = classifier
        self.capacity = capacity
        self.waiting = 0
        self._on_run = on_run
        self._jobs: deque[_Job] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(classifier.threads, thread_name_prefix="giemsa")

    def close(self) -> None:
        """Stop; what waits is forgotten."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def examine(
        self,
        pictures: Sequence[Source],
        finish: Callable[[Examined], Result],
        *,
        shown_px: int = 0,
        ready: Callable[[int, list[Result]], None] = lambda _start, _results: None,
    ) -> list[Result]:
        """Judge the pictures of one request, and give what `finish` makes of each, in their order.

        If the caller is cancelled, those of its pictures that wait are not judged any more.

        Parameters
        ----------
        pictures : sequence of Source
            They are read when it is their turn.
        finish : callable
            Makes of a verdict, and what there is to see, what is kept until all are judged; called by a worker.
        shown_px : int
            Longest side of the pictures that `finish` gets, with the evidence; 0 means that it gets neither.
        ready : callable, optional
            Told results as they come, in the order of the pictures: the place of the first, and the results; called in
            the event loop.

        Raises
        ------
        QueueFullError
            If as many pictures wait already as may.
        """
        if not pictures:
            return []
        if self.waiting + len(pictures) > self.capacity:
            raise QueueFullError(f"{self.waiting:,} pictures wait for the model, and at most {self.capacity:,} may")
        job = _Job(pictures, shown_px, finish, ready, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self.waiting += len(pictures)
        self._start_runs()
        try:
            return await job.done
        finally:
            if job in self._jobs:  # cancelled
                self._jobs.remove(job)
                self.waiting -= len(pictures) - job.taken

    def _start_runs(self) -> None:
        while self._jobs and len(self._running) < self.classifier.threads:
            task = asyncio.create_task(self._run(self._next_batch()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _task: self._start_runs())

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Take pictures off the queue, the same number of each request as far as that goes."""
        batch: list[tuple[_Job, int]] = []
        while self._jobs and len(batch) < CHUNK:
            share = max(1, (CHUNK - len(batch)) // len(self._jobs))
            job = self._jobs.popleft()
            end = min(job.taken + share, len(job.pictures))
            batch += [(job, index) for index in range(job.taken, end)]
            job.taken = end
            if end < len(job.pictures):
                self._jobs.append(job)
        self.waiting -= len(batch)
        return batch

    async def _run(self, batch: list[tuple[_Job, int]]) -> None:
        self._on_run(len(batch))
        results = await asyncio.get_running_loop().run_in_executor(self._pool, self._judge_apart, batch)
        for (job, index), result in zip(batch, results, strict=True):
            if isinstance(result, _Fault):
                if not job.done.done():
                    job.done.set_exception(result.error)
            else:
                job.results[index] = result
        for job in dict.fromkeys(job for job, _ in batch):
            if not job.done.done():
                _tell(job)

    def _judge_apart(self, batch: list[tuple[_Job, int]]) -> list[Any]:
        """Judge together; if that fails, each request's pictures apart, so that a fault stays with who brought it."""
        try:
            return self._judge(batch)
        except Exception as error:
            jobs = list(dict.fromkeys(job for job, _ in batch))
            if len(jobs) == 1:
                return [_Fault(error)] * len(batch)
        results: dict[tuple[_Job, int], Any] = {}
        for job in jobs:
            mine = [one for one in batch if one[0] is job]
            results |= zip(mine, self._judge_apart(mine), strict=True)
        return [results[one] for one in batch]

    def _judge(self, batch: list[tuple[_Job, int]]) -> list[Any]:
        shown_px = max(job.shown_px for job, _ in batch)
        pictures = [job.pictures[index] for job, index in batch]
        examined = self.classifier.examine(pictures, evidence=bool(shown_px), shown_px=shown_px)
        return [job.finish(one) for (job, _), one in zip(batch, examined, strict=True)]


def _tell(job: _Job) -> None:
    """Hand on the results that follow those that were handed on before."""
    start = job.told
    while job.told in job.results:
        job.told += 1
    if job.told > start:
        job.ready(start, [job.results[place] for place in range(start, job.told)])
    if job.told == len(job.pictures):
        job.done.set_result([job.results[place] for place in range(job.told)])
