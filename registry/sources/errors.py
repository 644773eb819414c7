"""Errors of the sources of adapters. As in `registry.errors`, docstrings are messages."""

from registry.errors import RegistryError


class NothingToImport(RegistryError):
    """No adapter in {path!r}: {reason}. Expected adapter_config.json there or one folder below."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__()


class HubAddressInvalid(RegistryError):
    """{text!r} is not a Hub address: {reason}. Expected hf:owner/name@revision#subfolder"""

    def __init__(self, text: str, reason: str) -> None:
        self.text = text[:300]
        self.reason = reason
        super().__init__()


class HubNotFound(RegistryError):
    """The Hub has no {address}: {reason}. Check the spelling; for a private one, set HF_TOKEN."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__()


class HubDenied(RegistryError):
    """The Hub denies access to {address}: {reason}. Ask for access there, and set HF_TOKEN."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__()


class HubFailed(RegistryError):
    """{address} could not be fetched: {reason}. Nothing was stored; try again later."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__()


class HubPushFailed(RegistryError):
    """Nothing was written to {address}: {reason}."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason.removesuffix(".")
        super().__init__()


class HubOwnerRefused(RegistryError):
    """This server imports nothing of {owner!r} from the Hub. WEFT_HUB_OWNERS allows {allowed}."""

    def __init__(self, owner: str, allowed: str) -> None:
        self.owner = owner
        self.allowed = allowed
        super().__init__()


class UploadInvalid(RegistryError):
    """The upload cannot be used: {reason}. Expected a plain .tar with one adapter's files."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class UploadTooLarge(RegistryError):
    """The upload is larger than the {limit} bytes that this registry accepts."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__()
