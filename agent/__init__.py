"""The steatosis agent: receives abdominal ultrasound studies, scores hepatic steatosis and files the result in PACS.

For research use only; nothing it writes is a diagnosis.
"""

import os

__version__ = "0.1.0"

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # looking for them reads the metadata of every package: 20 ms
