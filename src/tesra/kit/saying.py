"""What the platform says of a cause, so that its readers may have it in their own language.

Where such words are made they are English, whole, and go as text through the database, the API and
the command line. ``said`` marks them: ``make messages`` reads each marked text out of the source, as
a template with named fields (the last name in each of its braces), for the catalogues; pages find
the template that a text was made from and say it again. mypy refuses words that are not marked.
"""

from typing import NewType

from tesra.kit.errors import TesraError

Said = NewType("Said", str)


def said(words: str) -> Said:
    """``words`` must stand there: a text, an f-string, or a choice between such.

    A field called ``place`` is a file and a line, ``node`` one word, one of format ``d`` a number.
    What is said in a field is said again too, also several of it, with commas or semicolons between.
    """
    return Said(words)


def words_of(error: TesraError) -> Said:
    """What it says and the way out; the messages of errors are in the catalogues too."""
    between = "\n" if "\n" in error.detail else " "
    return Said(f"{error.detail}{between}{error.way_out}" if error.way_out else error.detail)
