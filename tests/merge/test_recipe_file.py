"""Recipe files: their content, and errors that name the file, the key and the expected value."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge.errors import RecipeInvalid
from merge.recipe_document import WrittenAdapter, WrittenRecipe
from merge.recipe_file import read_recipe_file

FULL = """
method: average
adapters:
  - path: legal
    weight: 0.7
    weights: {"*.mlp.*": 0.2, "*.layers.0.*": -1}
  - name: poet@prod
options: {rank: 16, energy: 0.95, scale: match}
dtype: float16
base: meta-llama/Llama-3.1-8B-Instruct
"""
PLAIN = {"method": "cat", "adapters": [{"path": "a"}]}


def written(folder: Path, text: str, name: str = "recipe.yaml") -> WrittenRecipe:
    """Write a recipe file and read it."""
    path = folder / name
    path.write_text(text)
    return read_recipe_file(path)


def refused(folder: Path, text: str, *says: str, name: str = "recipe.yaml") -> None:
    """Check that a file is refused, with its name and these words."""
    with pytest.raises(RecipeInvalid) as caught:
        written(folder, text, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    for word in says:
        assert word in message


def test_a_full_file_says_everything(tmp_path: Path) -> None:
    """Method, adapters with weights and patterns, options, dtype and base are read as written."""
    expected = WrittenRecipe(
        method="average",
        adapters=(
            WrittenAdapter(tmp_path / "legal", None, 0.7, (("*.mlp.*", 0.2), ("*.layers.0.*", -1))),
            WrittenAdapter(None, "poet@prod", 1.0, ()),
        ),
        options={"rank": 16, "energy": 0.95, "scale": "match"},
        dtype="float16",
        base="meta-llama/Llama-3.1-8B-Instruct",
    )
    assert expected == written(tmp_path, FULL)


def test_json_says_the_same(tmp_path: Path) -> None:
    """The same content in JSON is the same recipe."""
    plain = {**PLAIN, "adapters": [{"path": "a", "weight": -0.5, "weights": {"*": 2}}]}
    expected = written(tmp_path, json.dumps(plain))
    assert expected == written(tmp_path, json.dumps(plain, indent="\t"), "recipe.json")
    assert (-0.5, (("*", 2.0),)) == (expected.adapters[0].weight, expected.adapters[0].patterns)


def test_a_short_file_has_defaults(tmp_path: Path) -> None:
    """By default weights are 1, the dtype is bfloat16, and the base is that of the adapters."""
    expected = WrittenRecipe(
        "cat", (WrittenAdapter(tmp_path / "a", None, 1.0, ()),), {}, "bfloat16", None
    )
    assert expected == written(tmp_path, json.dumps(PLAIN))
    assert expected == written(tmp_path, "method: cat\nadapters: [{path: a}]\noptions:\n")


def test_folders_are_beside_the_file(tmp_path: Path) -> None:
    """Relative folders are resolved against the file's folder; absolute ones are unchanged."""
    text = "method: cat\nadapters: [{path: ../a}, {path: /b}]"
    paths = [adapter.path for adapter in written(tmp_path, text).adapters]
    assert [tmp_path / "../a", Path("/b")] == paths


def test_numbers_may_be_without_a_point(tmp_path: Path) -> None:
    """`1e-3`, which is a string in YAML 1.1, is read as a number."""
    text = "method: linear\nadapters: [{path: a, weight: 1e-3}]\noptions: {scale: 1e-3}"
    assert 0.001 == written(tmp_path, text).adapters[0].weight


MISTAKES = [
    # the file as a whole
    ("", "the recipe: expected keys with values, found None"),
    ("[]", "expected keys with values"),
    ("just words", "expected keys with values"),
    ("method: [", "not YAML"),
    ("method: cat\n\tadapters: x", "not YAML"),
    ("a: !!python/object/apply:os.getcwd []", "not YAML"),
    ("? [1, 2]\n: 3", "not YAML"),
    ("[" * 1000, "not YAML"),
    ("method: cat\nmethod: linear\nadapters: [{path: a}]", "'method' occurs twice"),
    ("1: cat", "expected keys with values"),
    # the top
    ("adapters: [{path: a}]", "the key method is missing"),
    ("method: cat", "the key adapters is missing"),
    ("{method: cat, adaptors: [], adapters: [{path: a}]}",
     "the recipe has no key 'adaptors' (did you mean adapters?); it takes method, adapters, opt"),
    ("{method: cat, weights: [1, 2], adapters: [{path: a}]}", "no key 'weights'"),
    ("{method: cad, adapters: [{path: a}]}", "unknown merge method 'cad' (did you mean cat?)"),
    ("{method: 3, adapters: [{path: a}]}", "method: expected a text, found 3"),
    ("{method: cat, adapters: []}", "adapters: expected a list of at least one adapter, found []"),
    ("{method: cat, adapters: {path: a}}", "adapters: expected a list of at least one adapter"),
    ("{method: cat, adapters: [{path: a}], dtype: int8}", "dtype: expected one of float32, fl"),
    ("{method: cat, adapters: [{path: a}], base: 7}", "base: expected a text, found 7"),
    # an adapter
    ("{method: cat, adapters: [a]}", "adapters[0]: expected keys with values, found 'a'"),
    ("{method: cat, adapters: [{path: a}, {}]}",
     "adapters[1]: expected one of the keys path and name, found []"),
    ("{method: cat, adapters: [{path: a, name: b}]}", "adapters[0]: expected one of the keys"),
    ("{method: cat, adapters: [{path: a, weigth: 2}]}", "no key 'weigth' (did you mean weight"),
    ("{method: cat, adapters: [{path: ''}]}", "adapters[0].path: expected a text, found ''"),
    ("{method: cat, adapters: [{name: 3}]}", "adapters[0].name: expected a text, found 3"),
    ("{method: cat, adapters: [{path: a, weight: many}]}",
     "adapters[0].weight: expected a finite number, found 'many'"),
    ("{method: cat, adapters: [{path: a, weight: .nan}]}", "adapters[0].weight: expected a finite"),
    ("{method: cat, adapters: [{path: a, weight: true}]}", "found True"),
    ("{method: cat, adapters: [{path: a, weight: [1, 2]}]}", "found [1, 2]"),
    (f"{{method: cat, adapters: [{{path: a, weight: {'9' * 400}}}]}}", "expected a finite number"),
    ("{method: cat, adapters: [{path: a, weights: [0.2, 0.3]}]}",
     "adapters[0].weights: expected patterns with numbers, found [0.2, 0.3]"),
    ("{method: cat, adapters: [{path: a, weights: {'*.mlp.*': x}}]}",
     "adapters[0].weights['*.mlp.*']: expected a finite number, found 'x'"),
    ("{method: cat, adapters: [{path: a, weight: 0}]}", "every weight is 0"),
    # the options
    ("{method: linear, adapters: [{path: a}], options: {rank: 0}}",
     "option rank takes an integer of at least 1, or auto, not 0"),
    ("{method: linear, adapters: [{path: a}], options: {rnak: 2}}", "did you mean rank"),
    ("{method: slerp, adapters: [{path: a}], options: {t: 1.5}}", "t takes a number from 0 to 1"),
    ("{method: slerp, adapters: [{path: a}], options: {energy: 0}}", "energy takes a number above"),
    ("{method: cat, adapters: [{path: a}], options: {scale: 0}}", "scale takes a finite number"),
    ("{method: cat, adapters: [{path: a}], options: [rank]}", "options: expected keys with values"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_every_mistake_is_told(tmp_path: Path, text: str, says: str) -> None:
    """A mistake raises RecipeInvalid with the file, the key, and the expected and actual value."""
    refused(tmp_path, text, says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"method": "cat", "method": "linear"}', "'method' occurs twice"),
        ('{"method": "cat", "adapters": [{"path": "a", "weight": NaN}]}', "a finite number"),
        ("null", "expected keys with values"),
    ],
)
def test_every_mistake_in_json_is_told(tmp_path: Path, text: str, says: str) -> None:
    """Mistakes in JSON files are refused as strictly."""
    refused(tmp_path, text, says, name="recipe.json")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 and oversized files are refused; a missing file is an OSError."""
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"method: \xff")
    with pytest.raises(RecipeInvalid, match="not YAML"):
        read_recipe_file(path)
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(RecipeInvalid, match="is this a recipe file"):
        read_recipe_file(path)
    with pytest.raises(FileNotFoundError):
        read_recipe_file(tmp_path / "none.yaml")


def test_an_alias_bomb_is_refused_quickly(tmp_path: Path) -> None:
    """Nested references that would expand to billions of values are never expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    refused(tmp_path, "\n".join(lines), "no key 'a0'")
    refused(tmp_path, "\n".join(lines[:1]) + "\nmethod: *a0\nadapters: [*a0]", "no key 'a0'")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=60), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["method", "adapters", "options", "path", "weights", "x"]), inner,
        max_size=4,
    ),
).map(json.dumps)))  # fmt: skip
def test_any_file_is_a_recipe_or_refused(tmp_path: Path, text: str) -> None:
    """Reading any file gives a recipe or RecipeInvalid, never another error."""
    path = tmp_path / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeInvalid):
        read_recipe_file(path)
