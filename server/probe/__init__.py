"""The probe: runs an adapter on its base in a child process, never in the serving engine."""
