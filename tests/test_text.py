"""Foreign text is one line of text, to a terminal and to a log."""

from __future__ import annotations

import pytest

from apixo_async._text import counted, one_line, printable

#: Sets the clipboard, sets the title, clears the screen, and the same in single characters.
ATTACK = "\x1b]52;c;cm0=\x07\x1b]0;title\x1b\\\x1b[2J\x9b2J\x9d0;t\x9c"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a plain text: ä 語 🦊", "a plain text: ä 語 🦊"),
        ("a  b", "a  b"),
        ("a\r\nb\tc\u2028d\x85e", "a  b c d e"),
        ("\x1b[31mred\x07", "?[31mred?"),
        ("\u202etxt\x9b2J\ud83d", "?txt?2J?"),
    ],
)
def test_what_is_printable(given: str, shown: str) -> None:
    """What is no text becomes a question mark, and what ends a line a space."""
    assert printable(given) == shown


def test_an_attack_is_only_text() -> None:
    """No control character is left, in seven bits or in eight."""
    assert printable(ATTACK).isprintable()
    assert one_line(f"{ATTACK}\n{ATTACK}").isprintable()


def test_one_line() -> None:
    """A text is folded into one line that cannot forge another one."""
    assert one_line("a\r\nb\x1b[31mc\x07\u202ed") == "a b?[31mc??d"
    assert one_line("  a \n\n b  ") == "a b"


def test_a_text_is_cut_short() -> None:
    """Of a long text the beginning is shown, and that there was more."""
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcde…"
    assert one_line("x" * 10_000_000, 1) == "…"


def test_counted() -> None:
    """One thing is singular."""
    assert [counted(number, "poll") for number in (0, 1, 2)] == ["0 polls", "1 poll", "2 polls"]
