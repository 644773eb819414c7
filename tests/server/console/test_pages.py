"""All pages."""

from nicegui.testing import User


async def test_adapters_are_listed(user: User) -> None:
    """The first page lists the adapters."""
    await user.open("/")
    await user.should_see("zorp")
