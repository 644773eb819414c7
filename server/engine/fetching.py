"""Asks this machine's `weft node` for an adapter. Runs inside vLLM's API server.

The plug-in knows folders only: where adapters come from is the node's affair. Without
`WEFT_NODE_URL` the gateway has put every adapter into the folder before it asks for it.
"""

import os

import httpx

# A node downloads gigabytes at most; the gateway gives up before this.
_FETCH_SECONDS = 600.0


class NodeUnavailable(Exception):
    """The node cannot bring an adapter now; it may later."""


class NotFetched(Exception):
    """The node cannot bring an adapter: the store does not have it, or has other bytes."""


def fetch(digest: str) -> None:
    """Have the node put an adapter into the folder. Blocking. Does nothing without a node.

    Raises:
        NotFetched, NodeUnavailable: with the node's reason.
    """
    url = os.environ.get("WEFT_NODE_URL")
    if not url:
        return
    key = os.environ.get("VLLM_API_KEY", "")
    # trust_env=False: a proxy of the environment must not see loopback traffic.
    with httpx.Client(trust_env=False, timeout=_FETCH_SECONDS) as http:
        try:
            answer = http.put(
                f"{url.rstrip('/')}/artifacts/{digest}",
                headers={"authorization": f"Bearer {key}"},
            )
        except httpx.HTTPError as error:
            raise NodeUnavailable(f"the node at {url} does not answer: {error!r}") from error
    if answer.status_code in (404, 422):
        raise NotFetched(_detail(answer))
    if not answer.is_success:
        raise NodeUnavailable(f"the node answered {answer.status_code}: {_detail(answer)}")


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
