"""A FHIR server and an MLLP receiver, real and small."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import unquote

from hl7apy.parser import parse_message

CANARY = "Test^Delivery"
"""What a server may quote of a patient in its error texts."""
Server = TypeVar("Server", bound=socketserver.BaseServer)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Serve on a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Fhir(ThreadingHTTPServer):
    """Keeps resources; takes transactions with conditional creates and answers reads, as HAPI and others do."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FhirHandler)
        self.kept: dict[str, dict[str, Any]] = {}
        self.conditions: dict[str, str] = {}
        self.answers: list[int] = []
        """Statuses to answer transactions with, before they are taken."""
        self.headers: dict[str, str] = {}
        """Sent with every answer; a Date among them replaces ours."""
        self.forgets = False
        self.says_where = True
        """Whether it says of what it had already where that is: FHIR leaves that open."""
        self.body: Callable[[Any], None] | None = None
        """Writes the body of a transaction's answer, where that is not one of ours."""
        self.transactions = 0
        self.tokens: set[str | None] = set()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/fhir"


class _FhirHandler(BaseHTTPRequestHandler):
    server: Fhir

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.transactions += 1
        self.server.tokens.add(self.headers.get("Authorization"))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status != 200 or self.path != "/fhir":
            issue = {"severity": "error", "code": "processing", "diagnostics": f"no such patient {CANARY}"}
            self._say(status if status != 200 else 404, {"resourceType": "OperationOutcome", "issue": [issue]})
            return
        entries = [self._create(entry) for entry in json.loads(body)["entry"]]
        if self.server.body is not None:
            self.send_response(200)
            self.end_headers()
            self.server.body(self.wfile)
            return
        self._say(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": entries})

    def _create(self, entry: dict[str, Any]) -> dict[str, Any]:
        condition = entry["request"]["url"] + "?" + entry["request"]["ifNoneExist"]
        status = "200 OK"
        if condition not in self.server.conditions:
            name = f"{entry['request']['url']}/{len(self.server.kept) + 1}"
            self.server.conditions[condition], status = name, "201 Created"
            if not self.server.forgets:
                self.server.kept[name] = entry["resource"]
        if status == "200 OK" and not self.server.says_where:
            return {"response": {"status": status}}
        return {"response": {"status": status, "location": f"{self.server.conditions[condition]}/_history/1"}}

    def do_GET(self) -> None:
        found = self.server.kept.get(self.path.removeprefix("/fhir/"))
        if self.path == "/fhir/metadata":
            found = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
        kind, asks, wanted = self.path.removeprefix("/fhir/").partition("?identifier=")
        if asks:
            system, _, value = unquote(wanted).partition("|")
            matches = [
                {"resource": {**one, "id": name.split("/")[1]}}
                for name, one in self.server.kept.items()
                if name.startswith(kind) and {"system": system, "value": value} in one["identifier"]
            ]
            found = {"resourceType": "Bundle", "type": "searchset", "entry": matches}
        self._say(404 if found is None else 200, found or {"resourceType": "OperationOutcome"})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in ({"Date": self.date_time_string()} | self.server.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_args: Any) -> None:
        """Be quiet."""


class Mllp(socketserver.ThreadingTCPServer):
    """Reads framed messages, parses them, and acknowledges."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MllpHandler)
        self.received: list[str] = []
        self.answers: list[tuple[str, str]] = []
        """Acknowledgement code and error condition, before it accepts; "" hangs up, "?" acknowledges another."""

    @property
    def address(self) -> str:
        return f"mllp://127.0.0.1:{self.server_address[1]}"


class _MllpHandler(socketserver.BaseRequestHandler):
    server: Mllp

    def handle(self) -> None:
        received = b""
        while b"\x1c\r" not in received:
            part = self.request.recv(4096)
            if not part:
                return
            received += part
        text = received.strip(b"\x0b\x1c\r").decode() + "\r"
        self.server.received.append(text)
        code, condition = self.server.answers.pop(0) if self.server.answers else ("AA", "")
        if not code:
            return
        about = parse_message(text).msh.msh_10.value if code != "?" else "ANOTHER"
        error = f"ERR|||{condition}^words|E\r" if condition else ""
        ack = f"MSH|^~\\&|RIS|H|STEATOSIS||20260101||ACK^R01|1|P|2.5.1\rMSA|{code.strip('?') or 'AA'}|{about}\r{error}"
        self.request.sendall(b"\x0b" + ack[:30].encode())
        time.sleep(0.02)  # in two pieces, as networks do
        self.request.sendall(ack[30:].encode() + b"\x1c\r")
