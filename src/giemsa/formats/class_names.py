"""The words by which people call the two classes of cells, in names of folders, in tables and in annotations."""

from __future__ import annotations

from typing import Final

PARASITIZED_NAMES: Final = ("parasitized", "parasitised", "infected", "positive", "parasite", "parasites", "malaria")
UNINFECTED_NAMES: Final = (
    "uninfected", "unparasitized", "unparasitised", "noninfected", "notinfected", "negative", "healthy", "normal",
)  # fmt: skip
