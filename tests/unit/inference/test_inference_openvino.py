"""OpenVINO in a process that takes signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[3] / "inference" / "bundles" / "reference"
OPEN_THEN_DROP = """
import gc, os, signal, sys, threading, time
from pathlib import Path
from inference.backends.interface import Graphs
from inference.backends.openvino import OpenVinoEngine

taken = []
signal.signal(signal.SIGTERM, lambda *_: taken.append(1))
engines = [OpenVinoEngine(Graphs((Path(sys.argv[1], "member-0.onnx").read_bytes(),)))]

def drop():
    engines.clear()
    gc.collect()

threads = [threading.Thread(target=drop)]
threads[0].start()
threads[0].join()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.1)
print("taken", len(taken))
"""


def test_a_signal_after_another_thread_dropped_the_engine_is_survived() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_THEN_DROP, str(BUNDLE)],
        capture_output=True, text=True, timeout=120, check=False, cwd=BUNDLE.parents[2],
    )  # fmt: skip
    assert done.returncode == 0, f"ended by {done.returncode}: {done.stderr[-500:]}"
    assert done.stdout.split() == ["taken", "1"]
