"""Cells uploaded to a Streamlit page to verdicts, how sure they are, and where the model sees what.

pip install giemsa streamlit
streamlit run examples/apps/streamlit_app.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import giemsa

SHOWN_PX = 160


@st.cache_resource
def load() -> giemsa.Classifier:
    """The embedded model, opened once for everybody."""
    return giemsa.load()


def main() -> None:
    """Draw the page."""
    st.set_page_config("Giemsa")
    st.title("Is a malaria parasite in these cells?")
    files = st.file_uploader("Pictures of single red blood cells", accept_multiple_files=True)
    if files:
        examined = load().examine([file.getvalue() for file in files], evidence=True, shown_px=SHOWN_PX)
        count = sum(one.verdict.verdict == "parasitized" for one in examined)
        st.metric("called parasitized", f"{count} of {len(files)}")
        for file, one in zip(files, examined, strict=True):
            show(file.name, one)
    st.warning(giemsa.DISCLAIMER)


def show(name: str, one: Any) -> None:  # noqa: ANN401
    """A row: the picture, where the score comes from, the verdict with its probability."""
    verdict = one.verdict
    picture, evidence, words = st.columns([1, 1, 2])
    if one.shown is not None:
        picture.image(one.shown, caption="picture")
        evidence.image(with_evidence(one.shown, one.evidence), caption="orange: for a parasite")
    words.subheader(verdict.verdict.replace("_", " "))
    words.write(name)
    if verdict.p_parasitized is None:
        words.write(verdict.reason)
    else:
        words.progress(verdict.p_parasitized, f"p parasitized {verdict.p_parasitized:.4f}")


def with_evidence(rgb: np.ndarray, evidence: np.ndarray | None) -> Image.Image:
    """The picture, orange where something speaks for a parasite and blue where it speaks against one."""
    picture = Image.fromarray(rgb)
    if evidence is None:
        return picture
    strength = np.clip(np.abs(evidence) / max(float(np.abs(evidence).max()), 1e-6), 0, 1)
    colour = np.where((evidence > 0)[..., np.newaxis], (255, 106, 0), (0, 114, 178)).astype(np.uint8)
    mask = Image.fromarray((140 * strength).astype(np.uint8)).resize(picture.size)
    return Image.composite(Image.fromarray(colour).resize(picture.size), picture, mask)


main()
