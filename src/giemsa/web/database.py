"""Answers of reviewers, appended and never changed, by SQLAlchemy: SQLite, or PostgreSQL.

Every answer is a row of its own, and a later one of the same person on the same picture counts instead of it; taking
an answer back is an answer too (`withdrawn`). The database itself refuses to change or remove an answer. It is
acknowledged when it is on the disk. Each carries a key that its sender chose, so that one sent twice is kept once.
Pictures that somebody wanted kept are never changed either, but can be removed; what was answered to them stays.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from giemsa.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = Literal["parasitized", "uninfected", "unsure", "not_a_cell", "withdrawn"]
ANSWERS: Final[tuple[Answer, ...]] = ("parasitized", "uninfected", "unsure", "not_a_cell", "withdrawn")

_metadata: Final = sa.MetaData()
_reviews: Final = sa.Table(
    "giemsa_reviews",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("reviewer", sa.Text, nullable=False, index=True),
    sa.Column("image", sa.Text, nullable=False),
    sa.Column("image_sha256", sa.String(64), nullable=False, index=True),
    sa.Column("model_sha256", sa.String(64), nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("p_parasitized", sa.Double),
    sa.Column("answer", sa.String(16), nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice
)
_pictures: Final = sa.Table(
    "giemsa_pictures",
    _metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("image", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
_PATIENCE_S: Final = 5
"""How long a lock, a statement or a connection is waited for."""
_POSTGRESQL_LIMITS: Final[dict[str, Any]] = {
    "connect_timeout": _PATIENCE_S,
    "options": f"-c statement_timeout={1000 * _PATIENCE_S} -c lock_timeout={1000 * _PATIENCE_S}",
    "tcp_user_timeout": 1000 * _PATIENCE_S,  # a machine that is gone
}
_REFUSED: Final = "answers and pictures are kept as they came"


@dataclass(frozen=True, slots=True)
class Review:
    """One answer of one person to one verdict on one picture.

    Attributes
    ----------
    key : str
        Chosen by whoever sends it, different for each answer.
    reviewer : str
        Who answered, as they call themselves.
    image, image_sha256 : str
        The picture's name and the SHA-256 of its file.
    model_sha256, verdict, p_parasitized
        What had been said of it, and by which model.
    answer : str
        One of `ANSWERS`.
    at : str
        When it was taken in, UTC, ISO 8601; set by the database's server.
    """

    key: str
    reviewer: str
    image: str
    image_sha256: str
    model_sha256: str
    verdict: str
    p_parasitized: float | None
    answer: str
    at: str = ""


class Conflict(Exception):  # noqa: N818 - it is no fault of the program's
    """The key was used before for another answer."""


class Reviews:
    """The answers in one database.

    Parameters
    ----------
    url : str
        As SQLAlchemy takes it: `sqlite:///FILE`, `postgresql://USER:PASSWORD@HOST/NAME`.
    existing : bool
        Whether the database must be there already, as one that is read from.

    Raises
    ------
    UsageError
        If the URL makes no sense.
    OutputError
        If the database cannot be reached, or is not there.
    """

    def __init__(self, url: str, *, existing: bool = False) -> None:
        try:
            parsed = sa.make_url(url)
        except (ArgumentError, ValueError) as error:
            raise UsageError("--database is no URL of a database; expected sqlite:///FILE or "
                             "postgresql://USER:PASSWORD@HOST/NAME") from error  # fmt: skip
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.host and "@" in parsed.host:  # the rest of a password, which must not be shown
            raise UsageError("--database has more than one @; write one that belongs to the password as %40")
        self.shown = parsed.render_as_string(hide_password=True)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise UsageError(
                f"--database {self.shown} is of {parsed.get_backend_name()}; expected sqlite or postgresql"
            )
        self._file = _File(Path(parsed.database or "")) if parsed.get_backend_name() == "sqlite" else None
        limits = {} if self._file is not None else _POSTGRESQL_LIMITS
        if self._file is not None:
            _prepare_file(parsed, existing=existing)
        try:
            self._engine = sa.create_engine(parsed, pool_pre_ping=True, pool_timeout=_PATIENCE_S,
                                            connect_args=limits)  # fmt: skip
            if self._file is not None:
                sa.event.listen(self._engine, "connect", _set_up_sqlite)
            self._create()
            if self._file is not None:
                self._file.remember()
                sa.event.listen(self._engine, "do_connect", self._file.before_connecting)
        except (SQLAlchemyError, NoSuchModuleError, ImportError) as error:
            raise OutputError(f"the database {self.shown} cannot be used: {_said(error)}") from error

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def add(self, review: Review) -> tuple[Review, bool]:
        """Keep an answer; when this returns, it is on the disk.

        Returns
        -------
        Review, bool
            As it is kept, and whether it is new: one with the same key and the same content is there already.

        Raises
        ------
        Conflict
            If there is one with the same key and another content.
        """
        values = {name: getattr(review, name) for name in Review.__dataclass_fields__} | {"at": _now()}
        with self._said():
            try:
                with self._engine.begin() as connection:
                    connection.execute(_reviews.insert().values(values))
                return Review(**values), True
            except IntegrityError:
                with self._engine.connect() as connection:
                    row = connection.execute(sa.select(_reviews).where(_reviews.c.key == review.key)).mappings().one()
                kept = Review(**{name: row[name] for name in Review.__dataclass_fields__})
                if any(getattr(kept, name) != value for name, value in values.items() if name != "at"):
                    raise Conflict(review.key) from None
                return kept, False

    def all(self) -> Iterator[Review]:
        """Every answer, oldest first."""
        with self._said(), self._engine.connect() as connection:
            result = connection.execution_options(yield_per=1000).execute(sa.select(_reviews).order_by(_reviews.c.id))
            for row in result.mappings():
                yield Review(**{name: row[name] for name in Review.__dataclass_fields__})

    def current(self, *, reviewer: str | None = None) -> list[Review]:
        """Answers that count: the last of each person on each picture, unless it was withdrawn."""
        newest = sa.select(sa.func.max(_reviews.c.id)).group_by(_reviews.c.reviewer, _reviews.c.image_sha256)
        query = sa.select(_reviews).where(_reviews.c.id.in_(newest), _reviews.c.answer != "withdrawn")
        if reviewer is not None:
            query = query.where(_reviews.c.reviewer == reviewer)
        with self._said(), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_reviews.c.id)).mappings().all()
        return [Review(**{name: row[name] for name in Review.__dataclass_fields__}) for row in rows]

    def keep_picture(self, sha256: str, image: str, content: bytes) -> None:
        """Keep a picture's file; one that is kept already stays as it is."""
        values = {"sha256": sha256, "at": _now(), "image": image, "content": content}
        with self._said():
            try:
                with self._engine.begin() as connection:
                    connection.execute(_pictures.insert().values(values))
            except IntegrityError:
                return

    def kept_pictures(self) -> list[tuple[str, str, int]]:
        """Digest and name of each kept picture, and by how many people it was answered; the fewest first."""
        answers = (
            sa.select(_reviews.c.image_sha256, sa.func.count(_reviews.c.reviewer.distinct()).label("people"))
            .group_by(_reviews.c.image_sha256)
            .subquery()
        )
        people = sa.func.coalesce(answers.c.people, 0)
        query = (
            sa.select(_pictures.c.sha256, _pictures.c.image, people)
            .outerjoin(answers, answers.c.image_sha256 == _pictures.c.sha256)
            .order_by(people, _pictures.c.at, _pictures.c.sha256)
        )
        with self._said(), self._engine.connect() as connection:
            return [(row[0], row[1], int(row[2])) for row in connection.execute(query)]

    def picture(self, sha256: str) -> bytes | None:
        """File of a kept picture; None where it is not kept."""
        with self._said(), self._engine.connect() as connection:
            content = connection.execute(
                sa.select(_pictures.c.content).where(_pictures.c.sha256 == sha256)
            ).scalar_one_or_none()
        return bytes(content) if content is not None else None

    def remove_picture(self, sha256: str) -> bool:
        """Remove a kept picture, and leave what was answered to it; tell whether there was one."""
        with self._said():
            with self._engine.begin() as connection:
                removed = connection.execute(_pictures.delete().where(_pictures.c.sha256 == sha256)).rowcount
            if self._engine.dialect.name == "sqlite":  # it goes out of the write-ahead log too
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed > 0

    def _create(self) -> None:
        """Make the tables where they are not there; two servers that start at once wait for each other."""
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(71536472)"))  # any number of our own
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            _metadata.create_all(connection)
            for table in _metadata.sorted_tables:
                for statement in _guards(connection.dialect.name, table.name):
                    connection.execute(sa.text(statement))

    def check(self) -> None:
        """Ask whether answers can be kept.

        Raises
        ------
        OutputError
            If not.
        """
        with self._said(), self._engine.connect() as connection:
            connection.execute(sa.select(sa.literal(1)))

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what a database did not do into one sentence; before, and after, its file must be there."""
        try:
            self._check_file()
            yield
            self._check_file()
        except (SQLAlchemyError, _FileGoneError) as error:
            raise OutputError(f"the database {self.shown} cannot be used: {_said(error)}") from error

    def _check_file(self) -> None:
        """Refuse if the file that is open is not the one that lies there: what is written to it is lost."""
        if self._file is None or self._file.is_the_same():
            return
        self._engine.dispose()
        if not self._file.path.is_file():
            raise _FileGoneError(f"the file {self._file.path} is gone; put it back")
        self._file.remember()  # another one was put in its place
        self._create()
        raise _FileGoneError(f"another file was put in the place of {self._file.path}; it is used from now on")


class _FileGoneError(Exception):
    """The file of a database was removed or replaced while it was open."""


class _File:
    """The file of an SQLite database, and which one it was when it was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, int] | None = None

    def remember(self) -> None:
        """Take the file that lies there for the one that is open."""
        self._opened = self._now()

    def is_the_same(self) -> bool:
        """Whether the file that was opened still lies there."""
        return self._now() == self._opened

    def before_connecting(self, *_: object) -> None:
        """Refuse to connect to nothing, which would make an empty database in its place."""
        if self._opened is not None and not self.path.is_file():
            raise _FileGoneError(f"the file {self.path} is gone; put it back")

    def _now(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _prepare_file(url: sa.URL, *, existing: bool) -> None:
    if not url.database or url.database == ":memory:":
        raise UsageError("--database sqlite:// has no file, so that nothing would be kept; expected sqlite:///FILE")
    path = Path(url.database)
    if existing and not path.is_file():
        raise OutputError(f"there is no database {path}; name the one that `giemsa serve` was given with --database")
    if not existing and not path.parent.is_dir():
        try:
            path.parent.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"the folder {path.parent} for the database cannot be made: "
                              f"{error.strerror or error}") from error  # fmt: skip


def _set_up_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401
    """Let readers and a writer work side by side, wait for each other, and write through to the disk."""
    for statement in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"busy_timeout = {1000 * _PATIENCE_S}",
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {statement}")


def _guards(dialect: str, table: str) -> list[str]:
    """Write the triggers that refuse to change a row, or to remove an answer."""
    refused = ["UPDATE", "DELETE", "TRUNCATE"] if table == _reviews.name else ["UPDATE"]
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
            if verb in refused
            else f"DROP TRIGGER IF EXISTS {table}_no_{verb}"  # of a database from before pictures could be removed
            for verb in ("UPDATE", "DELETE")
        ]
    return [
        f"CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
        f"CREATE OR REPLACE TRIGGER {table}_no_change BEFORE {' OR '.join(refused)} ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
    ]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _said(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:300] or type(error).__name__


def default_database() -> str:
    """Name a file in the user's own data folder (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_DATA_HOME")
    folder = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share"
    return f"sqlite:///{folder / 'giemsa' / 'reviews.sqlite'}"
