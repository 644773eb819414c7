"""The routes of the fake Hub that write: a repository, an upload in LFS, a commit.

POST /api/repos/create                            a new repository
POST /api/validate-yaml                           the front matter of a card
POST /api/models/{repo}/preupload/{branch}        which files go to LFS
POST /{repo}.git/info/lfs/objects/batch           where to put them
PUT  /lfs/{sha256}                                their bytes
POST /api/models/{repo}/commit/{branch}           a commit
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Answer = tuple[int, Mapping[str, object]]
_CREATE, _VALIDATE = re.compile(r"/api/repos/create"), re.compile(r"/api/validate-yaml")
_PREUPLOAD = re.compile(r"/api/models/([^/]+/[^/]+)/preupload/main")
_BATCH = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
_PUT = re.compile(r"/lfs/([0-9a-f]{64})")
_COMMIT = re.compile(r"/api/models/([^/]+/[^/]+)/commit/main")
_LFS_SUFFIX = ".safetensors"


@dataclass
class Pushed:
    """A repository that was pushed to: its files, its commits' messages, who may read it."""

    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    private: bool = False


class Writes:
    """Answers the routes that write; `repositories` is the result by name."""

    def __init__(self, endpoint: Callable[[], str]) -> None:
        self.repositories: dict[str, Pushed] = {}
        self._endpoint = endpoint
        self._uploaded: dict[str, bytes] = {}

    def answer(self, path: str, body: bytes) -> Answer:
        """Return status and JSON of a POST or a PUT."""
        for pattern, handle in (
            (_CREATE, self._create), (_VALIDATE, self._validate), (_PREUPLOAD, self._preupload),
            (_BATCH, self._batch), (_PUT, self._put), (_COMMIT, self._commit),
        ):  # fmt: skip
            if match := pattern.fullmatch(path):
                return handle(body, *match.groups())
        return 404, {}

    def _create(self, body: bytes) -> Answer:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            return 409, {"error": "You already created this model repo"}
        self.repositories[name] = Pushed(private=asked.get("visibility") == "private")
        return 200, {"url": f"{self._endpoint()}/{name}"}

    def _validate(self, body: bytes) -> Answer:
        front = json.loads(body)["content"].split("---\n")[1]
        licence = yaml.safe_load(front).get("license", "other")
        if licence not in ("apache-2.0", "mit", "other"):
            return 400, {"errors": [{"message": '"license" must be one of [apache-2.0, mit]'}]}
        return 200, {"warnings": []}

    def _preupload(self, body: bytes, name: str) -> Answer:
        if name not in self.repositories:
            return 404, {}
        files = [
            {"path": file["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if file["path"].endswith(_LFS_SUFFIX) else "regular"}
            for file in json.loads(body)["files"]
        ]  # fmt: skip
        return 200, {"files": files}

    def _batch(self, body: bytes, _name: str) -> Answer:
        objects = [
            item | {"actions": {"upload": {"href": f"{self._endpoint()}/lfs/{item['oid']}"}}}
            for item in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def _put(self, body: bytes, oid: str) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {}
        self._uploaded[oid] = body
        return 200, {}

    def _commit(self, body: bytes, name: str) -> Answer:
        repository = self.repositories[name]
        for line in body.splitlines():
            item: dict[str, Any] = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                repository.messages.append(value["summary"])
            elif item["key"] == "lfsFile":
                repository.files[value["path"]] = self._uploaded[value["oid"]]
            else:
                repository.files[value["path"]] = base64.b64decode(value["content"])
        number = f"{len(repository.messages):040x}"
        return 200, {"commitUrl": f"{self._endpoint()}/{name}/commit/{number}", "commitOid": number}
