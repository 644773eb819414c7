"""Tests of scoring: tokens, generated answers, intervals."""
