"""The addresses of pages that other pages lead to."""

from urllib.parse import quote, urlencode


def adapter_page(reference: str) -> str:
    """Return the address of an adapter's page, at a version if the reference names one."""
    name, _, number = reference.partition("@")
    return f"/adapters/{quote(name)}" + (f"?version={number}" if number.isdecimal() else "")


def compose_page(expression: str) -> str:
    """Return the address of the page that composes, at an expression."""
    return f"/compose?{urlencode({'model': expression})}"


def compare_page(*models: str) -> str:
    """Return the address of the page that compares, with a column for each model."""
    return f"/compare?{urlencode({'model': models}, doseq=True)}"
