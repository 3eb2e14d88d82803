"""Labelled cells: which there are, what people call them, whose they are, and how they are divided."""
