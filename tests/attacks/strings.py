"""Texts that are not valid names, grouped by the kind of attack."""

_DIGEST = "0" * 63 + "a"

TRAVERSALS = (
    "..", ".", "../x", "a/../../x", "a/..", "a/./b", "/", "/etc/passwd", "//a", "a//b", "a/",
    "..\\x", "a\\..\\b", "C:\\x", "file:///etc/passwd", "%2e%2e/x", "a/%2e%2e/b", "~", "~root/x",
    "$HOME/x", ".workspaces", ".hidden", "a/.hidden", "-rf", "a/-rf", "*", "?",
)  # fmt: skip
CONTROLS = (
    "", " ", " a", "a ", "a b", "\0", "a\0", "a\0b", "a/\0/b", "a\n", "a\nb", "a\r", "a\tb",
    "a\x7f", "a\x1b[2J", "a\udc80", "\ufeffa",
)  # fmt: skip
LOOK_ALIKES = (
    "\N{CYRILLIC SMALL LETTER A}dmin", "leg\N{CYRILLIC SMALL LETTER A}l",
    "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/x", "a\N{FULLWIDTH SOLIDUS}b",
    "a\N{DIVISION SLASH}b", "a\N{FRACTION SLASH}b", "\N{FULLWIDTH LATIN SMALL LETTER A}",
    "le\N{ZERO WIDTH SPACE}gal", "legal\N{ZERO WIDTH JOINER}", "a\N{RIGHT-TO-LEFT OVERRIDE}b",
    "e\N{COMBINING ACUTE ACCENT}", "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "\N{LATIN SMALL LIGATURE FI}", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",
    "a\N{ARABIC-INDIC DIGIT ONE}", "a\N{SUPERSCRIPT TWO}",
    "a\N{NO-BREAK SPACE}b", "\N{MATHEMATICAL BOLD SMALL A}", "LEGAL", "Legal",
)  # fmt: skip
LONG = ("a" * 201, "a/" * 5000 + "a", "\N{SQUID}" * 300, "a" * 10_000)
NO_NAMES = (*TRAVERSALS, *CONTROLS, *LOOK_ALIKES, *LONG)
NO_DIGESTS = (
    *NO_NAMES, "a", "legal", _DIGEST[1:], _DIGEST + "0", _DIGEST.upper(), _DIGEST + "\n",
    "../" + _DIGEST, _DIGEST + "/..", "\N{ARABIC-INDIC DIGIT ONE}" * 64,
    "\N{FULLWIDTH DIGIT ONE}" * 64, "0x" + _DIGEST[2:], " " * 64, "\0" * 64,
)  # fmt: skip
