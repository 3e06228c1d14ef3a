"""Progress lines by the name that commands know them by."""

from metasiam.progress_lines import Lines, in_words, lines

__all__ = ["Lines", "in_words", "lines"]
