"""The one exception that people are meant to read."""

from __future__ import annotations


class MetaSiamError(Exception):
    """Something the user can mend: bad data, bad options, a damaged file.

    Its text is one line that says what is wrong and what to do. The command line prints it as
    ``metasiam: <text>`` and exits with code 2; library callers catch it by this one name.
    """
