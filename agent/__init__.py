"""The steatosis agent: receives abdominal ultrasound studies, scores hepatic steatosis and files the result in PACS.

For research use only; nothing it writes is a diagnosis.
"""

__version__ = "0.1.0"
