"""Reviewers' answers to CSV: as they were given, or as the second reading that training and evaluation take."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from giemsa.data.index import read_index
from giemsa.data.labels import REVIEWED_COLUMNS
from giemsa.errors import DataError
from giemsa.files import replace_file
from giemsa.spreadsheets import GuardedWriter
from giemsa.verdicts import LABELS
from giemsa.web.database import Review

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from giemsa.web.database import Reviews


def write_answers(reviews: Reviews, output: Path, *, reviewers: Sequence[str] | None = None) -> str:
    """Write every answer, withdrawn ones too, oldest first; what a spreadsheet would run is guarded.

    Returns
    -------
    str
        A sentence about what was written.
    """
    columns = tuple(Review.__dataclass_fields__)
    count = 0
    with replace_file(output) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = GuardedWriter(file)
        writer.writerow(columns)
        for review in reviews.all():
            if reviewers is None or review.reviewer in reviewers:
                writer.writerow(["" if (value := getattr(review, name)) is None else value for name in columns])
                count += 1
    return f"{count:,} answers are in {output}"


def write_reviewed(
    reviews: Reviews,
    data: Path,
    output: Path,
    *,
    reviewers: Sequence[str] | None = None,
    positive_class: str | None = None,
) -> list[str]:
    """Write `file,official,reviewed` for the labelled cells of a folder that were reviewed.

    Cells are told by the digest of their files, so that it does not matter under which names they were reviewed. The
    majority of those who called a cell parasitized or uninfected counts.

    Returns
    -------
    list of str
        Sentences about what was written and what was left out.

    Raises
    ------
    DataError
        If none of the cells was reviewed, or nobody of these names reviewed any.
    """
    answers: dict[str, list[str]] = defaultdict(list)
    people = set()
    for review in reviews.current():
        if reviewers is None or review.reviewer in reviewers:
            people.add(review.reviewer)
            answers[review.image_sha256].append(review.answer)
    if not answers:
        whose = "" if reviewers is None else f" of {', '.join(reviewers)}"
        raise DataError(f"there is no answer{whose} in {reviews.shown}; review some cells first")
    rows, tied, unsure = [], 0, 0
    for cell in read_index(data, positive_class=positive_class):
        given = answers.get(cell.sha256)
        if given is None:
            continue
        votes = Counter(answer for answer in given if answer in LABELS)
        if not votes:
            unsure += 1
        elif votes["parasitized"] == votes["uninfected"]:
            tied += 1
        else:
            rows.append((cell.file, cell.label, votes.most_common(1)[0][0]))
    if not rows:
        raise DataError(
            f"none of the {len(answers):,} reviewed pictures that a majority calls parasitized or uninfected is in "
            f"{data}; expected the same files"
        )
    with replace_file(output) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(REVIEWED_COLUMNS)
        writer.writerows(rows)
    disputed = sum(official != reviewed for _, official, reviewed in rows)
    said = [f"{len(rows):,} cells, reviewed by {len(people):,}, are in {output}; {disputed:,} of them are disputed"]
    if tied:
        said.append(f"{tied:,} cells are left out, since as many called them parasitized as uninfected")
    if unsure:
        said.append(f"{unsure:,} cells are left out, since nobody called them parasitized or uninfected")
    return said
