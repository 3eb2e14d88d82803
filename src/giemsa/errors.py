"""What can go wrong, in one tree.

    GiemsaError
    ├── UsageError          (ValueError)   an argument or a combination of arguments that makes no sense
    ├── SourceError         (OSError)      the pictures asked for are not there or cannot be listed
    ├── PictureError        (ValueError)   one picture cannot be read; becomes an `unreadable` row
    ├── ModelError          (ValueError)   a file is not a model that this version can run
    ├── OutputError         (OSError)      a result cannot be written, or is there already
    ├── MissingExtraError   (ImportError)  a command needs a part of Giemsa that is not installed
    ├── DataError           (ValueError)   labelled cells, labels, patients or splits that do not fit together
    ├── DownloadError       (OSError)      something fetched did not come, or is not what it should be
    ├── RecipeError         (ValueError)   a recipe with an unknown key or an impossible value
    └── RunError            (ValueError)   a run folder is incomplete, taken, or of another format

Every message is one sentence: what is wrong, with the value and where it came from, what was expected, and
what to do about it.
"""

from __future__ import annotations


class GiemsaError(Exception):
    """Base of everything that Giemsa raises on purpose."""


class GiemsaWarning(UserWarning):
    """Something that a careful reader of the results must know."""


class UsageError(GiemsaError, ValueError):
    """An argument, or a combination of arguments, that makes no sense."""


class SourceError(GiemsaError, OSError):
    """The pictures asked for are not there or cannot be listed."""


class PictureError(GiemsaError, ValueError):
    """One picture cannot be read; in a stream it becomes an `unreadable` row and the rest goes on."""


class ModelError(GiemsaError, ValueError):
    """A file is not a model, or not one that this version of Giemsa can run."""


class OutputError(GiemsaError, OSError):
    """A result cannot be written, or an existing one would be overwritten."""


class MissingExtraError(GiemsaError, ImportError):
    """A command needs a part of Giemsa that is not installed."""


class DataError(GiemsaError, ValueError):
    """Labelled cells, labels, patients or splits that do not fit together."""


class DownloadError(GiemsaError, OSError):
    """Something that was fetched did not come, or is not what it should be."""


class RecipeError(GiemsaError, ValueError):
    """A recipe with an unknown key or an impossible value."""


class RunError(GiemsaError, ValueError):
    """A run folder that is incomplete, already taken, or of another format."""
