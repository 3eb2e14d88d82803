"""The routes of the review: answers in, who answered what, kept pictures, and how far people agree."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field, StringConstraints

from giemsa.errors import PictureError
from giemsa.images import sniff
from giemsa.verdicts import VerdictName  # noqa: TC001 - pydantic reads it
from giemsa.web.database import Answer, Conflict, Review
from giemsa.web.problems import ProblemError
from giemsa.web.readers import compare_readers
from giemsa.web.schemas import PICTURES_BODY, Words, problems, with_example
from giemsa.web.settings import MAX_NAME
from giemsa.web.uploads import receive_upload

if TYPE_CHECKING:
    from giemsa.web.database import Reviews
    from giemsa.web.state import AppState
    from giemsa.web.uploads import Upload

_PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f]+$"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME, pattern=_PRINTABLE)]
Reviewer = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PRINTABLE)]


_KEY: Final = "3f1c2b9e-0d2f-4c59-a0a8-5f6f7f2d8f11"
_AT: Final = "2026-01-31T09:30:00.000+00:00"
_PICTURE_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_EXAMPLE: Final = {
    "reviewer": "M. Okello",
    "image": "ring.png",
    "image_sha256": _PICTURE_SHA256,
    "model_sha256": "fc7b272d6d41bef4a59bcb733a898367f16ef5c880e0c85532c4e0a6a8f28da7",
    "verdict": "parasitized",
    "p_parasitized": 0.9973,
    "answer": "uninfected",
}


class ReviewSent(Words):
    """One person's answer to one verdict."""

    model_config = with_example({"key": _KEY} | _EXAMPLE)

    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")] = Field(
        description="Chosen by the sender, a new one for each answer: sent twice, it is kept once"
    )
    reviewer: Reviewer
    image: Name
    image_sha256: Digest
    model_sha256: Digest
    verdict: VerdictName
    p_parasitized: Annotated[float, Field(ge=0, le=1, strict=True)] | None
    answer: Answer = Field(description="withdrawn takes this person's answer to this picture back")


class ReviewKept(Words):
    """That an answer is on the disk."""

    model_config = with_example({"key": _KEY, "at": _AT, "new": True})

    key: str
    at: str = Field(description="When it was taken in, UTC")
    new: bool = Field(description="false if it was there already")


class ReviewAnswer(Words):
    """An answer that counts."""

    model_config = with_example(_EXAMPLE | {"at": _AT})

    reviewer: str
    image: str
    image_sha256: str
    model_sha256: str
    verdict: str
    p_parasitized: float | None
    answer: str
    at: str


class AgreementAnswer(Words):
    """How far two readers agree."""

    model_config = with_example(
        {"first": "M. Okello", "second": "the model", "n": 100, "units": 12, "kind": "patients",
         "table": [[46, 4], [2, 48]], "kappa": 0.88, "low": 0.78, "high": 0.96, "reason": ""}
    )  # fmt: skip

    first: str
    second: str
    n: int
    units: int
    kind: Literal["patients", "pictures"]
    table: list[list[int]] = Field(description="First by second; uninfected before parasitized")
    kappa: float | None
    low: float | None
    high: float | None
    reason: str


class PictureAnswer(Words):
    """A kept picture."""

    model_config = with_example({"sha256": _PICTURE_SHA256, "image": "ring.png", "people": 2})

    sha256: str
    image: str
    people: int = Field(description="How many people answered")


def reviews_router(state: AppState) -> APIRouter:
    """Routes of the review."""
    reviews, calls = state.reviews, state.calls
    router = APIRouter(tags=["review"])

    @router.post(
        "/api/v1/reviews",
        summary="Keep an answer",
        status_code=201,
        responses={200: {"description": "It was there already", "model": ReviewKept}, **problems(400, 409, 422, 503)},
    )
    async def keep(sent: ReviewSent, response: Response) -> ReviewKept:
        try:
            kept, new = await calls(reviews.add, Review(**sent.model_dump()))
        except Conflict:
            raise ProblemError(
                409, f"the key {sent.key} was used before for another answer; choose a new one"
            ) from None
        if new:
            state.counts.reviewed()
        else:
            response.status_code = 200
        return ReviewKept(key=kept.key, at=kept.at, new=new)

    @router.get("/api/v1/reviews", summary="Read the answers that count", responses=problems(422, 503))
    async def read(reviewer: Annotated[Reviewer | None, Query()] = None) -> list[ReviewAnswer]:
        current = await calls(reviews.current, reviewer=reviewer)
        return [ReviewAnswer(**{name: getattr(one, name) for name in ReviewAnswer.model_fields}) for one in current]

    @router.get(
        "/api/v1/agreement", summary="Compare reviewers with each other and with the model", responses=problems(503)
    )
    async def compare() -> list[AgreementAnswer]:
        compared = await calls(lambda: compare_readers(reviews.current()))
        return [AgreementAnswer(**one) for one in compared]

    @router.post(
        "/api/v1/pictures",
        summary="Keep pictures, for others to review",
        status_code=201,
        openapi_extra={"requestBody": PICTURES_BODY},
        responses=problems(400, 408, 413, 415, 422, 503),
    )
    async def keep_pictures(request: Request) -> list[PictureAnswer]:
        upload = await receive_upload(request, state.folder)
        try:
            return await calls(_keep, reviews, upload, state.settings.max_unpacked_bytes)
        finally:
            upload.close()

    @router.get("/api/v1/pictures", summary="List kept pictures, the least reviewed first", responses=problems(503))
    async def list_pictures() -> list[PictureAnswer]:
        kept = await calls(reviews.kept_pictures)
        return [PictureAnswer(sha256=sha256, image=image, people=people) for sha256, image, people in kept]

    @router.get(
        "/api/v1/pictures/{sha256}",
        summary="Read a kept picture's file",
        response_class=Response,
        responses={
            200: {
                "description": "The file as it was sent",
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            },
            **problems(404, 422, 503),
        },
    )
    async def read_picture(sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]) -> Response:
        content = await calls(reviews.picture, sha256)
        if content is None:
            raise ProblemError(404, f"no picture with the SHA-256 {sha256} is kept")
        # never shown by a browser as what it claims to be
        headers = {"Content-Disposition": "attachment"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    @router.delete(
        "/api/v1/pictures/{sha256}",
        summary="Remove a kept picture",
        description="What was answered to it stays: answers hold its name and digest, and are never removed.",
        status_code=204,
        responses=problems(404, 422, 503),
    )
    async def remove_picture(sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]) -> None:
        if not await calls(reviews.remove_picture, sha256):
            raise ProblemError(404, f"no picture with the SHA-256 {sha256} is kept")

    return router


def _keep(reviews: Reviews, upload: Upload, max_unpacked: int) -> list[PictureAnswer]:
    kept = []
    for picture in upload.pictures(max_unpacked=max_unpacked):
        try:
            content = picture.read()
            sniff(content)
        except PictureError:
            continue  # nobody could review it
        digest = hashlib.sha256(content).hexdigest()
        reviews.keep_picture(digest, picture.name, content)
        kept.append(PictureAnswer(sha256=digest, image=picture.name, people=0))
    return kept
