"""The grammar of the `model` field: every production, its white space, its errors, its limits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.references import Reference, parse_reference
from server.compose.expression import (
    MAX_LENGTH,
    Expression,
    ExpressionInvalid,
    OptionValue,
    Term,
    parse_model,
)

A, B, C = Reference(name="a"), Reference(name="b"), Reference(name="c")
DIGEST = "0123456789" * 6 + "abcd"
NUMERIC_DIGEST = "1" * 64


def linear(*terms: Term) -> Expression:
    """Return what a sum stands for."""
    return Expression("linear", terms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", A),
        ("  a\t", A),
        ("legal@prod", Reference(name="legal", alias="prod")),
        ("legal@3", Reference(name="legal", version=3)),
        ("team/legal-v2.1_x@1", Reference(name="team/legal-v2.1_x", version=1)),
        (DIGEST, Reference(digest=DIGEST)),
        (NUMERIC_DIGEST, Reference(digest=NUMERIC_DIGEST)),
        ("none", Reference(name="none")),
        ("e5", Reference(name="e5")),
    ],
)
def test_a_reference_alone_is_a_reference(text: str, expected: Reference) -> None:
    """Name, version, alias, digest and namespace; a digest of digits only is no weight."""
    assert expected == parse_model(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat(a)", Expression("cat", (Term(1.0, A),))),
        ("cat()", Expression("cat", ())),
        ("cat(a,b)", Expression("cat", (Term(1.0, A), Term(1.0, B)))),
        ("cat( -0.5 * a , +b )", Expression("cat", (Term(-0.5, A), Term(1.0, B)))),
        ("cat(-a)", Expression("cat", (Term(-1.0, A),))),
        ("cat(a;)", Expression("cat", (Term(1.0, A),))),
        ("cat(a;scale=2)", Expression("cat", (Term(1.0, A),), (("scale", 2),))),
        (
            f"lego(2*{DIGEST}, b@prod ; rank = 16 , seed=0)",
            Expression(
                "lego",
                (Term(2.0, Reference(digest=DIGEST)), Term(1.0, Reference(name="b", alias="prod"))),
                (("rank", 16), ("seed", 0)),
            ),
        ),
        ("x_1(a)", Expression("x_1", (Term(1.0, A),))),
    ],
)
def test_a_call_names_method_terms_and_options(text: str, expected: Expression) -> None:
    """`method(terms ; options)`, either list possibly empty, white space anywhere between."""
    assert expected == parse_model(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8), ("-8", -8), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0),
        ("-1.5E-2", -0.015), ("true", True), ("false", False), ("none", None),
        ("auto", "auto"), ("a.b-c_D", "a.b-c_D"), ("True", "True"),
    ],
)  # fmt: skip
def test_an_option_is_a_number_a_word_or_a_constant(text: str, value: OptionValue) -> None:
    """Whole numbers are ints, others floats; true, false and none are themselves."""
    parsed = parse_model(f"m(a; o={text})")
    assert isinstance(parsed, Expression)
    found = parsed.options[0][1]
    assert (value, type(value)) == (found, type(found))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.7*a + 0.3*b", linear(Term(0.7, A), Term(0.3, B))),
        ("a - b", linear(Term(1.0, A), Term(-1.0, B))),
        ("a - 2*b + c", linear(Term(1.0, A), Term(-2.0, B), Term(1.0, C))),
        ("-a", linear(Term(-1.0, A))),
        ("+a", linear(Term(1.0, A))),
        ("1*a", linear(Term(1.0, A))),
        ("-1e-2 * a\t+\n2 *b", linear(Term(-0.01, A), Term(2.0, B))),
        (f"2*{DIGEST}", linear(Term(2.0, Reference(digest=DIGEST)))),
    ],
)
def test_a_sum_is_sugar_for_linear(text: str, expected: Expression) -> None:
    """Weighted references with + and - between them mean `linear` of the same terms."""
    assert expected == parse_model(text)


def test_minus_needs_spaces_since_names_may_hold_it() -> None:
    """`a-b` is one name, `a - b` is a difference."""
    assert Reference(name="a-b") == parse_model("a-b")
    assert linear(Term(1.0, A), Term(-1.0, B)) == parse_model("a - b")


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 0, "a name"),
        ("   ", 3, "a name"),
        ("?", 0, "a name"),
        ("a b", 2, "' + '"),
        ("a +b", 2, "' + '"),
        ("a+ b", 1, "' + '"),
        ("a -b", 2, "' + '"),
        ("a + ", 4, "a name"),
        ("a + -b", 4, "a name"),
        ("- a", 1, "a name"),
        ("0.5a", 3, "'*'"),
        ("0.5", 3, "'*'"),
        ("0.5 *", 5, "a name"),
        ("1e999*a", 0, "a finite weight"),
        ("cat(a, 1e999*b)", 7, "a finite weight"),
        ("1e*a", 1, "'*'"),
        ("0x10*a", 1, "'*'"),
        ("nan*a", 3, "' + '"),
        ("A", 0, "a name"),
        ("cat(a,)", 6, "a name"),
        ("cat(a", 5, "','"),
        ("cat(a b)", 6, "','"),
        ("cat (a)", 4, "' + '"),
        ("cat(a))", 6, "the end"),
        ("cat(a) + b", 7, "the end"),
        ("cat(cat(a))", 7, "','"),
        ("cat(a;rank)", 10, "'='"),
        ("cat(a;rank=)", 11, "a number"),
        ("cat(a;rank=-auto)", 12, "a number"),
        ("cat(a;=3)", 6, "an option's name"),
        ("cat(a;Rank=3)", 6, "an option's name"),
        ("cat(a;x=1,)", 10, "an option's name"),
        ("cat(a;x=1;y=2)", 9, "','"),
        ("cat(a;x=1,x=2)", 10, "each option once"),
        ("a@", 2, "a version"),
        ("a@0", 2, "a version"),
        ("a@1@2", 2, "a version"),
        ("cat(b, a@01)", 9, "a version"),
        ("a/", 2, "a lower-case letter after the slash"),
        ("a\u00e9", 1, "' + '"),
        ("\uff41", 0, "a name"),
        ("\u0661*a", 0, "a name"),
    ],
)
def test_an_error_says_where_and_what_was_expected(text: str, position: int, expected: str) -> None:
    """The position is that of the first character that does not fit."""
    with pytest.raises(ExpressionInvalid) as caught:
        parse_model(text)
    assert position == caught.value.position
    assert caught.value.expected.startswith(expected)


@pytest.mark.parametrize("text", ["cat(zorp, ?)", "x" * 300 + " ?" + " y" * 300, "cat(a"])
def test_the_caret_stands_under_the_place(text: str) -> None:
    """However long the text, its window in the message has the caret under the position."""
    with pytest.raises(ExpressionInvalid) as caught:
        parse_model(text)
    _, shown, caret = str(caught.value).split("\n")
    at = caught.value.position
    assert text[at : at + 1] == shown[len(caret) - 1 :][:1]
    assert caret.strip() == "^"


def test_the_length_is_limited() -> None:
    """A text above the limit is refused without being parsed, and not repeated in full."""
    with pytest.raises(ExpressionInvalid, match="at most 4096") as caught:
        parse_model("cat(" + "a," * MAX_LENGTH)
    assert len(str(caught.value)) < 300


def test_the_longest_number_is_read() -> None:
    """A number as long as a text may be is a value like any other, not a crash."""
    parsed = parse_model(f"m(a;x={'9' * (MAX_LENGTH - 7)})")
    assert isinstance(parsed, Expression)
    assert isinstance(parsed.options[0][1], int)


def position_of_error(text: str) -> int:
    """Return where a text is invalid, or 0 when it is not."""
    try:
        parse_model(text)
    except ExpressionInvalid as error:
        return error.position
    return 0


@given(st.text(max_size=80))
def test_any_text_parses_or_is_invalid(text: str) -> None:
    """Nothing but ExpressionInvalid comes out of the parser, with a position inside the text."""
    assert position_of_error(text) in range(len(text) + 1)


@given(st.text(alphabet="ab1.5e+-*@/(),;= \n0_", max_size=40))
def test_any_text_of_the_grammar_s_letters_parses_or_is_invalid(text: str) -> None:
    """The same, where nearly everything is nearly right."""
    assert position_of_error(text) in range(len(text) + 1)


words = st.from_regex(r"[a-z][a-z0-9._-]{0,6}", fullmatch=True)
plain_names = st.lists(words, min_size=1, max_size=3).map("/".join)
references = st.one_of(
    plain_names.map(lambda name: Reference(name=name)),
    st.builds(lambda n, v: Reference(name=n, version=v), plain_names, st.integers(1, 999_999_999)),
    st.builds(lambda n, a: Reference(name=n, alias=a), plain_names, words),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(parse_reference),
)
weights = st.floats(allow_nan=False, allow_infinity=False)
terms = st.builds(Term, weights, references)
values = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(
        lambda word: word not in ("true", "false", "none")
    ),
)
identifiers = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
expressions = st.builds(
    Expression,
    identifiers,
    st.lists(terms, max_size=5).map(tuple),
    st.dictionaries(identifiers, values, max_size=4).map(lambda made: tuple(made.items())),
)


def render(expression: Expression) -> str:
    """Write an expression as a client would."""
    ingredients = ", ".join(f"{term.weight!r}*{term.reference}" for term in expression.terms)
    options = ", ".join(f"{name}={_render(value)}" for name, value in expression.options)
    return f"{expression.method}({ingredients}{'; ' if options else ''}{options})"


def _render(value: OptionValue) -> str:
    constants = {True: "true", False: "false", None: "none"}
    if isinstance(value, bool) or value is None:
        return constants[value]
    return value if isinstance(value, str) else repr(value)


@given(expressions)
def test_what_is_written_out_is_read_back(expression: Expression) -> None:
    """Writing any expression as text and parsing it gives the same expression."""
    assert expression == parse_model(render(expression))


@given(st.lists(terms, min_size=2, max_size=5))
def test_a_sum_is_read_back_as_linear(written: list[Term]) -> None:
    """A sum of any weights and references is `linear` of them, signs included."""
    text = f"{written[0].weight!r}*{written[0].reference}"
    for term in written[1:]:
        sign = "-" if math.copysign(1.0, term.weight) < 0 else "+"
        text += f" {sign} {abs(term.weight)!r}*{term.reference}"
    assert Expression("linear", tuple(written)) == parse_model(text)


@given(references)
def test_a_reference_is_read_back(reference: Reference) -> None:
    """The text of any reference is that reference."""
    assert reference == parse_model(str(reference))


def test_the_caret_is_under_its_place_across_lines() -> None:
    """White space of any kind in the text does not move the caret."""
    with pytest.raises(ExpressionInvalid) as caught:
        parse_model("cat(zorp,\n\tblim,\n ?)")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "\t" not in lines[1]
    assert lines[1].index("?") == lines[2].index("^")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Lego (a, b)", "lego(a, b)"),
        ("lego (a, b; rank=8)", "lego(a, b; rank=8)"),
        ("LEGO(A, B)", "lego(a, b)"),
        ("Legal@Prod", "legal@prod"),
        ("0.7*a \u2013 b", "0.7*a - b"),
        ("a \u2014 b \u2212 c", "a - b - c"),
        ("legal\u2010v2", "legal-v2"),
        ("auto(; filter=\u201crank<=16\u201d)", 'auto(; filter="rank<=16")'),
        ("auto(; filter=\u2018tag=law\u2019)", 'auto(; filter="tag=law")'),
        ("auto(; filter='tag=law')", 'auto(; filter="tag=law")'),
    ],
)
def test_a_common_mistake_is_answered_with_the_text_that_is_meant(written: str, meant: str) -> None:
    """Typographic quotes and dashes, capitals and a space before the bracket: the hint parses."""
    with pytest.raises(ExpressionInvalid) as caught:
        parse_model(written)
    assert f"Did you mean `{meant}`?" == str(caught.value).splitlines()[-1]
    parse_model(meant)


@pytest.mark.parametrize("text", ["/srv/legal", "./legal", "../x", "~/legal", "C:\\x", "hf:a/b"])
def test_a_path_is_answered_with_the_command_that_imports_it(text: str) -> None:
    """A folder or a repository in place of a name is answered with how to make it a name."""
    with pytest.raises(ExpressionInvalid, match="weft adapters import SOURCE --name NAME"):
        parse_model(text)


@pytest.mark.parametrize("text", ["cat(a", ".5a", "a +b", "A" * 300, "?"])
def test_no_hint_is_made_up(text: str) -> None:
    """Where no common mistake explains the error, the message ends with the caret."""
    with pytest.raises(ExpressionInvalid) as caught:
        parse_model(text)
    assert str(caught.value).endswith("^")
