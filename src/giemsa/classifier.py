"""Pictures to verdicts: read, decode, resize and run, in order and in bounded memory.

Pictures are taken in chunks of `CHUNK`. A chunk is one task for one of `threads` worker threads, which does all
of it: reading, decoding, resizing, and one run of the model with a single thread of its own. Reading, OpenCV
and ONNX Runtime give Python's lock away, so the threads run side by side, and nothing is handed from stage to
stage. A few chunks are under way at a time; their verdicts come out in the order in which the pictures went in.
"""

from __future__ import annotations

import math
import os
from collections import deque
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from giemsa.errors import PictureError, UsageError
from giemsa.images import decode, from_pillow, resize, shrink, to_rgb
from giemsa.model import Model, open_model
from giemsa.sources import Source, printable, read_file
from giemsa.verdicts import LABELS, Verdict, is_parasitized

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from giemsa.tables import RunRecord
    from giemsa.verdicts import VerdictName

CHUNK: Final = 32
"""Cells of one task: enough to make Python's part small; more are slower, since their planes leave the cache."""
_AHEAD: Final = 2
"""Chunks in the queue for each thread, so that none waits for the caller."""
FIELD_PX: Final = 600
"""Shorter side from which a picture is hardly of one cell: the largest of 15,617 official ones has 340 px."""

_RATHER_A_FIELD_PX: Final = 250
"""Shorter side from which a picture that is no cell may be a whole field, which is said with the command for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A verdict, and what there is to see of it.

    Attributes
    ----------
    verdict : Verdict
        What the classifier says.
    shown : ndarray or None
        The picture, uint8 [H, W, 3] RGB, shrunk to what was asked for; None where it was not, or cannot be read.
    evidence : ndarray or None
        float32 [h, w] in logit units, with the logit as its mean; None where there is none.
    """

    verdict: Verdict
    shown: NDArray[np.uint8] | None = None
    evidence: NDArray[np.float32] | None = None


class Classifier:
    """Says what cells are.

    Parameters
    ----------
    model : Model or path, optional
        A model, an ONNX file or a run folder; None means the embedded model.
    threads : int, optional
        Worker threads; None means one for each core that this process may use.
    decide : bool
        Call every readable picture parasitized or uninfected, whatever the doubt.

    Attributes
    ----------
    fields_seen : int
        How many pictures so far were so large that they show a whole field rather than one cell: what is said of them
        means nothing.

    Raises
    ------
    ModelError
        If the model cannot be opened or breaks the contract.
    UsageError
        If `threads` is below one.

    Examples
    --------
    >>> import giemsa
    >>> classifier = giemsa.load()                             # doctest: +SKIP
    >>> classifier.classify("cell.png").verdict                # doctest: +SKIP
    'uninfected'
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str] | None = None,
        *,
        threads: int | None = None,
        decide: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}; expected 1 or more")
        self.model = model if isinstance(model, Model) else open_model(model)
        self.threads = threads if threads is not None else usable_cores()
        self.decide = decide
        self.fields_seen = 0
        self._counting = Lock()

    def record(self, *, command: str = "") -> RunRecord:
        """Say what is used, for a report: model, digest, provider, threads, threshold, version and command."""
        from giemsa import __version__
        from giemsa.tables import RunRecord

        return RunRecord(
            model=self.model.card.name,
            model_sha256=self.model.digest,
            provider=self.model.provider,
            threads=self.threads,
            threshold=self.model.card.threshold,
            giemsa=__version__,
            command=command,
        )

    def classify(self, picture: object) -> Verdict:
        """Give the verdict on one picture.

        Parameters
        ----------
        picture : path, bytes, ndarray, PIL.Image.Image or Source
            A file's path, a whole file's bytes, pixels as `images.to_rgb` takes them, or a Pillow image.

        Returns
        -------
        Verdict
            `unreadable`, with the reason, where the picture cannot be read.

        Raises
        ------
        UsageError
            If it is none of these kinds, or an array of another dtype or shape.
        """
        return self._classify_chunk(0, [picture])[0]

    def classify_many(self, pictures: Iterable[object]) -> Iterator[Verdict]:
        """Give the verdicts on many pictures, in their order, lazily.

        Parameters
        ----------
        pictures : iterable
            Of whatever `classify` takes. Paths here are files; `sources.open_sources` opens folders, archives
            and patterns. It is read a few hundred pictures ahead and never held whole.

        Yields
        ------
        Verdict
            One for each picture.
        """
        for verdicts in self.classify_batches(pictures):
            yield from verdicts

    def classify_batches(self, pictures: Iterable[object]) -> Iterator[list[Verdict]]:
        """Give the same as `classify_many` in lists of up to `CHUNK` verdicts, as they come from the workers."""
        stream = iter(pictures)
        first = list(islice(stream, CHUNK))
        if self.threads == 1 or len(first) < CHUNK:
            start = 0
            while first:
                yield self._classify_chunk(start, first)
                start += len(first)
                first = list(islice(stream, CHUNK))
            return
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="giemsa")
        under_way: deque[Future[list[Verdict]]] = deque()
        try:
            start, chunk = 0, first
            while chunk or under_way:
                if chunk:
                    under_way.append(pool.submit(self._classify_chunk, start, chunk))
                    start += len(chunk)
                    chunk = list(islice(stream, CHUNK))
                # What is ready is handed on at once: a slow source, a list that somebody types, holds nothing back.
                while under_way and (not chunk or len(under_way) > self.threads * _AHEAD or under_way[0].done()):
                    verdicts = under_way[0].result()
                    under_way.popleft()
                    yield verdicts
        except KeyboardInterrupt:
            # What is computed, or nearly, is not thrown away.
            for future in under_way:
                if future.cancel():
                    break
                yield future.result()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def examine(self, pictures: Sequence[object], *, evidence: bool = True, shown_px: int = 0) -> list[Examined]:
        """Give the verdicts on a few pictures, in one run of the model, with what there is to see of them.

        Parameters
        ----------
        pictures : sequence
            Of whatever `classify` takes.
        evidence : bool
            Whether to give evidence maps too, where the model has them.
        shown_px : int
            Longest side of the pictures that are handed back, in pixels; 0 means that none are.

        Returns
        -------
        list of Examined
            One for each picture, in their order.
        """
        return self._examine(0, pictures, evidence=evidence, shown_px=shown_px)

    def _classify_chunk(self, start: int, pictures: list[object]) -> list[Verdict]:
        return [examined.verdict for examined in self._examine(start, pictures)]

    def _examine(
        self, start: int, pictures: Sequence[object], *, evidence: bool = False, shown_px: int = 0
    ) -> list[Examined]:
        size = self.model.card.input_size_px
        cells = np.empty((len(pictures), size, size, 3), np.uint8)
        names: list[str] = []
        reasons: list[str | None] = []
        shown: list[NDArray[np.uint8] | None] = []
        sizes: list[int] = []
        readable = 0
        for offset, picture in enumerate(pictures):
            names.append(_name(picture, start + offset))
            try:
                rgb = _pixels(picture)
                if min(rgb.shape[:2]) >= FIELD_PX:
                    with self._counting:
                        self.fields_seen += 1
                cells[readable] = resize(rgb, size)
            except PictureError as error:
                reasons.append(" ".join(str(error).split()))
            else:
                reasons.append(None)
                sizes.append(min(rgb.shape[:2]))
                shown.append(shrink(rgb, shown_px) if shown_px else None)
                readable += 1
        scored = iter(self._scored(cells[:readable], evidence=evidence) if readable else ())
        seen, sides = iter(shown), iter(sizes)
        examined = []
        for name, reason in zip(names, reasons, strict=True):
            if reason is not None:
                examined.append(Examined(Verdict(name, "unreadable", reason=reason)))
            else:
                logit, p, cell, novelty, evidence_map = next(scored)
                label, why = self._judged(logit, p, cell, novelty, next(sides))
                examined.append(Examined(Verdict(name, label, p, logit, novelty, why), next(seen), evidence_map))
        return examined

    def _judged(
        self, logit: float, p: float, cell: float | None, novelty: float | None, side: int
    ) -> tuple[VerdictName, str]:
        """Verdict on one picture, and why it is no label."""
        card = self.model.card
        if not self.decide and card.doubt:
            doubt = card.doubt
            if cell is not None and cell < doubt.get("cell", -math.inf):
                field = "; giemsa smear reads whole fields" if side >= _RATHER_A_FIELD_PX else ""
                return "not_a_cell", f"it does not look like one red cell{field}"
            if novelty is not None and novelty > doubt.get("novelty", math.inf):
                return "not_a_cell", f"it is unlike all cells that the model knows (novelty {novelty:.2f})"
            if "uninfected_to" in doubt:
                labels = int(logit <= doubt["uninfected_to"]) + int(logit >= doubt["parasitized_from"])
                if labels != 1:
                    which = "both labels are" if labels else "neither label is"
                    return "indeterminate", f"{which} plausible at a level of {doubt.get('level', 0):.0%}"
        return LABELS[is_parasitized(p, card.threshold)], ""

    def _scored(
        self, cells: NDArray[np.uint8], *, evidence: bool
    ) -> Iterator[tuple[float, float, float | None, float | None, NDArray[np.float32] | None]]:
        output = self.model.run(cells, evidence=evidence)
        nothing = [None] * len(cells)
        return zip(
            output.logit.tolist(),
            self.model.p_parasitized(output.logit).tolist(),
            output.cell.tolist() if output.cell is not None else nothing,
            output.novelty.tolist() if output.novelty is not None else nothing,
            output.evidence if output.evidence is not None else nothing,
            strict=True,
        )


def usable_cores() -> int:
    """Count the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system can tell
        return os.cpu_count() or 1


def pixels_of(picture: object) -> NDArray[np.uint8] | None:
    """Read a source, a path, a file's bytes or an array.

    Returns
    -------
    ndarray or None
        uint8 [H, W, 3] RGB; None where it is none of these kinds.

    Raises
    ------
    PictureError
        If it cannot be read.
    UsageError
        If it is an array of another dtype or shape than `images.to_rgb` takes.
    """
    if isinstance(picture, Source):
        return decode(picture.read())
    if isinstance(picture, np.ndarray):
        return to_rgb(picture)
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode(bytes(picture))
    if isinstance(picture, str | os.PathLike):
        return decode(read_file(os.fsdecode(picture)))
    return None


def _pixels(picture: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    rgb = pixels_of(picture)
    if rgb is not None:
        return rgb
    if hasattr(picture, "getexif") and hasattr(picture, "convert"):  # a Pillow image, without importing Pillow
        return from_pillow(picture)
    raise UsageError(f"a picture is given as {type(picture).__name__}; expected a path, bytes, an array or a "
                     "Pillow image")  # fmt: skip


def _name(picture: Any, index: int) -> str:  # noqa: ANN401
    """Name a picture by its file, or by its place in the stream where it has none."""
    if isinstance(picture, Source):
        return picture.name
    if isinstance(picture, str | os.PathLike):
        return printable(os.fsdecode(picture))
    file = getattr(picture, "filename", None)
    return printable(os.fsdecode(file)) if isinstance(file, str | os.PathLike) and file else f"#{index}"
