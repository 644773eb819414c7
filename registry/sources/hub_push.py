"""Publish an adapter's folder on the Hugging Face Hub, in one commit.

Not covered: what the folder has (the server's exports), and reading from the Hub (`hub_client`).
"""

from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from registry.errors import RegistryError
from registry.sources.errors import HubFailed, HubPushFailed
from registry.sources.hub_address import HubAddress
from registry.sources.hub_client import SENSELESS, explained, quiet_client


def push_folder(
    folder: Path,
    address: HubAddress,
    message: str,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    public: bool = False,
) -> HubAddress:
    """Commit the files of a folder to a repository, and return their address at that commit.

    A repository that does not exist is created, private unless `public`. The commit is made whole
    or not at all.

    Args:
        folder: with files only.
        address: the repository, and perhaps a branch and a folder in it.
        message: the first line of the commit.
        endpoint: URL of the Hub; None: HF_ENDPOINT, or huggingface.co.
        token: None takes HF_TOKEN, or the token of `hf auth login`.
        public: whether everybody may read the repository.

    Raises:
        HubPushFailed: the repository is public and `public` is not set, or the Hub did not answer
            as expected.
        HubDenied, HubNotFound: the token may not write there, or there is no such branch.
    """
    api = HfApi(endpoint=endpoint, token=token, library_name="weft")
    quiet_client()
    try:
        _require_repository(api, address, public=public)
        files = [
            CommitOperationAdd(address.path(path.name), str(path))
            for path in sorted(folder.iterdir())
        ]
        commit = api.create_commit(
            address.repo, files, commit_message=message, revision=address.revision
        )
    except (httpx2.HTTPError, OSError, *SENSELESS) as error:
        raise _pushing(address, error) from error
    return address.at(commit.oid)


def _require_repository(api: HfApi, address: HubAddress, *, public: bool) -> None:
    try:
        private = api.model_info(address.repo).private
    except RepositoryNotFoundError:
        api.create_repo(address.repo, visibility="public" if public else "private")
        return
    if not private and not public:
        raise HubPushFailed(str(address), "the repository is public, and --public was not given")


def _pushing(address: HubAddress, error: Exception) -> RegistryError:
    """Return the registry's error for an error of the client while it writes."""
    if isinstance(error, ValueError) and "metadata" in str(error):
        return HubPushFailed(str(address), " ".join(str(error).split())[:300])
    reason = explained(address, error)
    return HubPushFailed(str(address), reason.reason) if isinstance(reason, HubFailed) else reason
