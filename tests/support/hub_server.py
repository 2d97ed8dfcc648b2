"""A Hub on the loopback interface: repositories in memory, served and changed by the requests that `huggingface_hub` makes."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_of_the_owner"
OTHER_TOKEN = "hf_of_somebody_else"
_NAME = r"([\w.-]+/[\w.-]+)"


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a commit. ``size`` is what is announced, which may be another than that of the data."""

    data: bytes
    large: bool
    size: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_oid


@dataclasses.dataclass
class Repository:
    """The commits of a repository by their ids, and its branches and tags."""

    private: bool
    commits: dict[str, dict[str, File]] = dataclasses.field(default_factory=dict)
    refs: dict[str, str] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)

    def commit(self, files: dict[str, File], branch: str = "main", message: str = "initial commit") -> str:
        text = f"{len(self.commits)} {sorted((p, f.etag) for p, f in files.items())} {message}"
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = files
        self.refs[branch] = oid
        self.messages.append(message)
        return oid

    def at(self, revision: str) -> str | None:
        return self.refs.get(revision) or (revision if revision in self.commits else None)


class Hub:
    """The server's repositories.

    Attributes:
        url: The endpoint, for HF_ENDPOINT.
        repositories: By their ids.
        requests: What was asked for: method and path.
        failing: Whether every request is answered by the error 503.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.storage = url.replace("127.0.0.1", "localhost")  # another host, as the Hub's storage of large files is
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failing = False

    def put(self, name: str, folder: Path, *, private: bool = False, sizes: dict[str, int] | None = None) -> str:
        """Make a repository of a folder's files, with other announced sizes of some; gives the commit."""
        files = {}
        for path in (p for p in folder.rglob("*") if p.is_file()):
            data, inside = path.read_bytes(), path.relative_to(folder).as_posix()
            files[inside] = File(data, _is_large(inside), (sizes or {}).get(inside, len(data)))
        repository = self.repositories.setdefault(name, Repository(private))
        return repository.commit(files)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a repository."""
        repository = self.repositories[name]
        return {path: file.data for path, file in repository.commits[repository.refs[revision]].items()}

    def downloaded(self) -> list[str]:
        """The paths of all files that were asked for, since the last `clear`."""
        return [unquote(r.split("/resolve/")[1].partition("/")[2]) for r in self.requests if "/resolve/" in r]

    def clear(self) -> None:
        self.requests.clear()


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a Hub on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {}))
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.RequestHandlerClass.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        self.body = self._body()
        parts = urlsplit(self.path)
        path, self.query = unquote(parts.path), parse_qs(parts.query)
        self.hub.requests.append(f"{self.command} {parts.path}")
        if self.hub.failing:
            return self.say(503, {"error": "out of order"})
        for pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                return answer(self, *found.groups())
        return self.say(404, {"error": f"nothing at {path}"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def say(self, status: int, value: Any = None, data: bytes | None = None, **headers: str) -> None:
        content = (json.dumps(value).encode() if value is not None else b"") if data is None else data
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if data is None else "application/octet-stream")
        for name, text in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def fail(self, status: int, code: str, message: str) -> None:
        self.say(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    # -- who asks ----------------------------------------------------------------------------------------------------

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def readable(self, name: str) -> Repository | None:
        """The repository, or ``None`` after an answer that it cannot be read."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.token != TOKEN):
            self.fail(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
            return None
        return found

    def writable(self, name: str) -> Repository | None:
        found = self.readable(name)
        if found is not None and self.token != TOKEN:
            self.fail(401 if self.token is None else 403, "", "You may not write here")
            return None
        return found

    def commit_of(self, repository: Repository, revision: str) -> str | None:
        oid = repository.at(revision)
        if oid is None:
            self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    # -- answers -----------------------------------------------------------------------------------------------------

    def create(self) -> None:
        wish = json.loads(self.body)
        name = f"{wish['organization']}/{wish['name']}"
        if self.token is None:
            return self.fail(401, "", "Invalid username or password.")
        if self.token != TOKEN:
            return self.fail(403, "", f"You don't have the rights to create a model under {wish['organization']}")
        if name in self.hub.repositories:
            return self.say(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        # version 2 of the client says visibility, those before private
        private = wish.get("private") is True or wish.get("visibility") == "private"
        self.hub.repositories[name] = made = Repository(private)
        made.commit({".gitattributes": File(b"*.safetensors filter=lfs\n", False, 25)})
        return self.say(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def info(self, name: str, revision: str | None = None) -> None:
        repository = self.readable(name)
        oid = repository and self.commit_of(repository, revision or "main")
        if not repository or not oid:
            return
        files = [{"rfilename": path} for path in repository.commits[oid]]
        about = {"id": name, "modelId": name, "sha": oid, "private": repository.private, "siblings": files}
        self.say(200, {**about, "gated": False, "disabled": False, "tags": [], "xetEnabled": False})

    def tree(self, name: str, revision: str, folder: str | None = None) -> None:
        repository = self.readable(name)
        oid = repository and self.commit_of(repository, revision)
        if not repository or not oid:
            return
        start = f"{folder}/" if folder else ""
        found = {path: file for path, file in repository.commits[oid].items() if path.startswith(start)}
        if folder and not found:
            return self.fail(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        folders = sorted({path[:n] for path in found for n, c in enumerate(path) if c == "/" and n >= len(start)})
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in folders]
        for path, file in found.items():
            large = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
            more = {"lfs": large} if file.large else {}
            entries.append({"type": "file", "oid": file.git_oid, "size": file.size, "path": path, **more})
        self.say(200, entries)

    def resolve(self, name: str, revision: str, path: str) -> None:
        repository = self.readable(name)
        oid = repository and self.commit_of(repository, revision)
        if not repository or not oid:
            return
        file = repository.commits[oid].get(path)
        if file is None:
            return self.fail(404, "EntryNotFound", f"{path} does not exist on {revision}")
        common = {"X_Repo_Commit": oid, "Accept_Ranges": "bytes"}
        if not file.large:
            return self.say(200, data=file.data, ETag=f'"{file.etag}"', **common)
        self.hub.uploads[file.sha256] = file.data
        linked = {"X_Linked_Etag": f'"{file.sha256}"', "X_Linked_Size": str(file.size)}
        return self.say(302, **common, **linked, Location=f"{self.hub.storage}/storage/{file.sha256}")

    def stored(self, oid: str) -> None:
        self.say(200, data=self.hub.uploads[oid], ETag=f'"{oid}"')

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.fail(400, "", "the content has another hash")
        self.hub.uploads[oid] = self.body
        return self.say(200)

    def batch(self, name: str) -> None:
        if self.writable(name) is None:
            return
        objects = []
        for wish in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.storage}/storage/{wish['oid']}"}}
            objects.append(wish if wish["oid"] in self.hub.uploads else {**wish, "actions": upload})
        self.say(200, {"transfer": "basic", "objects": objects})

    def preupload(self, name: str, revision: str) -> None:
        repository = self.writable(name)
        oid = repository and self.commit_of(repository, revision)
        if not repository or not oid:
            return
        files = []
        for wish in json.loads(self.body)["files"]:
            old = repository.commits[oid].get(wish["path"])
            mode = "lfs" if _is_large(wish["path"]) else "regular"
            known = old.etag if old else None
            files.append({"path": wish["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known})
        self.say(200, {"files": files})

    def commit(self, name: str, revision: str) -> None:
        repository = self.writable(name)
        oid = repository and self.commit_of(repository, revision)
        if not repository or not oid:
            return
        files, message = dict(repository.commits[oid]), ""
        for line in self.body.splitlines():
            key, value = (one := json.loads(line))["key"], one["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, oid):
                    return self.fail(412, "", "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                data = base64.b64decode(value["content"])
                files[value["path"]] = File(data, False, len(data))
            elif key == "lfsFile":
                files[value["path"]] = File(self.hub.uploads[value["oid"]], True, value["size"])
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                return self.fail(400, "", f"{key} is unknown")
        made = repository.commit(files, revision, message)
        return self.say(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{made}", "commitOid": made, "success": True})

    def branch(self, name: str, branch: str) -> None:
        repository = self.writable(name)
        if repository is None:
            return
        if branch in repository.refs:
            return self.say(409, {"error": "Reference already exists"})
        repository.refs[branch] = repository.refs["main"]
        return self.say(200, {})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        try:
            data = yaml.safe_load(text.split("---\n")[1])
            errors = [] if isinstance(data, dict) else [{"message": "no table"}]
        except (yaml.YAMLError, IndexError) as error:
            errors = [{"message": str(error)}]
        self.say(400 if errors else 200, {"errors": errors, "warnings": []})


_MODEL = rf"/api/models/{_NAME}"
_ROUTES = [
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"GET {_MODEL}", _Handler.info),
    (rf"GET {_MODEL}/revision/(.+)", _Handler.info),
    (rf"GET {_MODEL}/tree/([^/]+)(?:/(.+))?", _Handler.tree),
    (rf"POST {_MODEL}/preupload/(.+)", _Handler.preupload),
    (rf"POST {_MODEL}/commit/(.+)", _Handler.commit),
    (rf"POST {_MODEL}/branch/(.+)", _Handler.branch),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (r"(?:GET|HEAD) /storage/(\w+)", _Handler.stored),
    (r"PUT /storage/(\w+)", _Handler.store),
]
