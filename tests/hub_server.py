"""A model hub on this machine, for huggingface_hub's own client: one repository, kept in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

NAME = "firm/industries"
REVISION = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Serves the requests of ``create_repo``, ``upload_folder`` and ``snapshot_download``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Point the client to this hub; it reads its settings when it is imported."""
        settings = {
            "ENDPOINT": self.url,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
        }
        for name, value in settings.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.endswith("/preupload/main"):
            facts = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": one["path"], **facts} for one in json.loads(body)["files"]]})
        elif self.path.endswith("/commit/main"):
            lines = map(json.loads, body.splitlines())
            for value in (line["value"] for line in lines if line["key"] == "file"):
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            self.answer({"commitUrl": f"{self.server.url}/{NAME}/commit/{REVISION}", "commitOid": REVISION})
        else:  # /api/repos/create, /api/validate-yaml
            self.answer({"url": f"{self.server.url}/{NAME}", "errors": [], "warnings": []})

    def do_GET(self) -> None:
        files = self.server.files
        if self.path.startswith(f"/api/models/{NAME}/tree/"):
            facts = {"type": "file", "oid": REVISION}
            self.answer([{"path": name, "size": len(data), **facts} for name, data in files.items()])
        elif self.path.startswith(f"/api/models/{NAME}"):
            known = {"id": NAME, "modelId": NAME, "sha": REVISION, "private": True, "tags": []}
            self.answer(known | {"siblings": [{"rfilename": name} for name in files], "downloads": 0, "likes": 0})
        elif self.path.startswith(f"/{NAME}/resolve/"):
            self.answer(files.get(self.path.rpartition("/")[2]))
        else:
            self.answer(None)

    do_HEAD = do_GET

    def answer(self, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
