"""Who can reach a gateway on Ray: every machine that reaches this one."""


class KeysMissing(OSError):
    """No key exists, so that every machine that reaches a gateway would be an admin."""

    def __init__(self) -> None:
        super().__init__(
            "gateways on Ray listen on every address of their machine, and no key exists, so "
            "anybody would be an admin: create a key with `weft keys create NAME --role admin "
            "--all-namespaces`, or set WEFT_API_KEYS"
        )


def require_keys(*, has_keys: bool) -> None:
    """Raise KeysMissing unless there is a key."""
    if not has_keys:
        raise KeysMissing
