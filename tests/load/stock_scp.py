"""Stock pynetdicom as a storage SCP, as its documentation makes one: `python -m tests.load.stock_scp PORT FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])

    def store(event: Any) -> int:
        (folder / str(event.request.AffectedSOPInstanceUID)).write_bytes(event.encoded_dataset())
        return 0

    ae = AE(ae_title="STEATOSIS")
    ae.maximum_pdu_size = 0
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


if __name__ == "__main__":
    main()
