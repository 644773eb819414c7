"""Results of canaries in the registry, on both databases."""

import pytest

from registry.callers import Caller
from registry.service import Registry
from registry.versions.canaries import CanaryFailure
from tests.registry.conftest import BASE, Register

RECIPE, ARTIFACT, PROMPTS, OTHER = "a" * 64, "b" * 64, "c" * 64, "d" * 64
FAILURES = (CanaryFailure(2, "a refusal", "Sure! Ünï"), CanaryFailure(11, "a match of x", ""))


@pytest.fixture
def artifact(registry: Registry, register: Register) -> str:
    """An artifact that was made of an adapter of acme."""
    digest = register("acme/law", seed=1)
    registry.compositions.save_recipe("{}", RECIPE, BASE, [(digest, 1.0)])
    registry.compositions.record_artifact(RECIPE, ARTIFACT, bytes=1, seconds=1.0, report={})
    return ARTIFACT


def test_the_first_result_of_a_set_of_prompts_stays(registry: Registry, artifact: str) -> None:
    """A result is stored once for each artifact and set of prompts, with failures in order."""
    canaries = registry.canaries
    assert canaries.find(artifact, PROMPTS) is None
    first = canaries.record(artifact, PROMPTS, asked=12, failures=FAILURES, seconds=0.5)
    assert (False, 12, FAILURES) == (first.passed, first.asked, first.failures)
    assert first == canaries.record(artifact, PROMPTS, asked=12, failures=(), seconds=0.1)
    assert first == canaries.find(artifact, PROMPTS)
    second = canaries.record(artifact, OTHER, asked=1, failures=(), seconds=0.1)
    assert second.passed
    assert second == canaries.newest(artifact)


def test_results_are_as_visible_as_their_artifact(registry: Registry, artifact: str) -> None:
    """Who cannot see an ingredient sees no result."""
    registry.canaries.record(artifact, PROMPTS, asked=12, failures=FAILURES, seconds=0.5)
    assert registry.canaries.newest(artifact, caller=Caller("a", "read", "acme")) is not None
    assert registry.canaries.newest(artifact, caller=Caller("b", "read", "other")) is None


def test_only_artifacts_are_merges(registry: Registry, register: Register, artifact: str) -> None:
    """A version that was not merged here is no merge."""
    assert registry.canaries.is_merge(artifact)
    assert not registry.canaries.is_merge(register("law", seed=2))
