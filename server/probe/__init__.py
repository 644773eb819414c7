"""Trying an adapter on its base, in a throw-away process and never in the serving engine."""
