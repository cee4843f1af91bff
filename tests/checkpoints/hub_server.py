"""A small server on loopback that speaks as much of the hub's language as fetching files takes."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" * 6 + "abcd"
LATER_COMMIT = "decade" * 6 + "abcd"


@dataclass
class Hub:
    """What is served, how it misbehaves, and what it was asked.

    `files`: (repository, path) → content. `cut`: how many bytes each of the next answers gives
    before the connection breaks. `garbled`: what is sent is not what was announced. `gated`: the
    token that its repositories want.
    """

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    commit: str = COMMIT
    commits: dict[str, dict[tuple[str, str], bytes]] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    garbled: bool = False
    gated: str | None = None
    ignores_ranges: bool = False
    plain_etags: bool = False
    etag: str | None = None
    surplus: bool = False
    status: int | None = None
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def content(self, repo: str, revision: str, path: str) -> bytes | None:
        if revision in ("main", self.commit):
            return self.files.get((repo, path))
        return self.commits.get(revision, {}).get((repo, path))

    def fetched(self) -> list[tuple[str, str | None]]:
        """Path and range of every GET."""
        return [(path, wanted) for method, path, wanted in self.log if method == "GET"]

    def move_on(self, files: dict[tuple[str, str], bytes]) -> None:
        """The branch goes to another commit; the old one stays to be had."""
        self.commits[self.commit] = self.files
        self.commit, self.files = LATER_COMMIT, files

    def start(self) -> ThreadingHTTPServer:
        server = _Quiet(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        return server


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            if self.path == "/":
                return self._refuse(200, "")
            hub.log.append((self.command, self.path, self.headers.get("Range")))
            owner, name, _, revision, *rest = self.path.strip("/").split("/")
            repo, path = f"{owner}/{name}", "/".join(rest)
            if hub.status is not None:
                return self._refuse(hub.status, "")
            if hub.gated and self.headers.get("Authorization") != f"Bearer {hub.gated}":
                return self._refuse(
                    401 if "Authorization" not in self.headers else 403, "GatedRepo"
                )
            content = hub.content(repo, revision, path)
            if content is None:
                return self._refuse(404, "EntryNotFound")
            return self._send(content, revision if len(revision) == 40 else hub.commit, with_body)

        def _send(self, content: bytes, commit: str, with_body: bool) -> None:
            kind = hashlib.sha1 if hub.plain_etags else hashlib.sha256
            digest = hub.etag or kind(content).hexdigest()
            start, size = self._start() if with_body else 0, len(content)
            body = bytes(len(content)) if hub.garbled else content
            if with_body and hub.surplus:
                body = content = content * 2
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(size))
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if not with_body:
                return
            cut = hub.cut.pop(0) if hub.cut else None
            self.wfile.write(body[start:] if cut is None else body[start : start + cut])
            if cut is not None:
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True

        def _start(self) -> int:
            wanted = self.headers.get("Range")
            if wanted is None or hub.ignores_ranges:
                return 0
            return int(wanted.removeprefix("bytes=").rstrip("-"))

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
