"""Show a result in OHIF, as a radiologist meets it: `python -m tests.peers.show_in_ohif DIST OUT`.

DIST is `package/dist` of `npm pack @ohif/app`, unpacked. A phantom study is scored and reported, stored in an Orthanc
with its DICOMweb plug-in, and each picture opened in headless Chromium; the screenshots lie in OUT, to be looked at.
OHIF draws those SRs only that carry annotations; ours is read with dsr2html.
"""

from __future__ import annotations

import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

from pydicom.uid import ExplicitVRLittleEndian

from agent.report.report_study import ReportRequest, build_report
from agent.score.score_study import ScoreLimits, score_study
from inference.predictor import Predictor
from tests.peers.orthanc import Orthanc
from tests.support.ultrasound import STUDY, image, phantom, saved
from tests.unit.report.report_sources import CONTENT_AT
from tests.unit.score.conftest import BUNDLE

_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
_CONFIG = """window.config = {
  routerBasename: '/', showStudyList: true, extensions: [], modes: [], maxNumberOfWebWorkers: 2,
  customizationService: { 'ohif.tours': { $set: [] } },
  investigationalUseDialog: { option: 'never' }, defaultDataSourceName: 'dicomweb',
  dataSources: [{ namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: { friendlyName: 'Orthanc', name: 'Orthanc', wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web',
      wadoRoot: '/dicom-web', qidoSupportsIncludeField: false, supportsReject: false, imageRendering: 'wadors',
      thumbnailRendering: 'wadors', enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      omitQuotationForMultipartRequest: true } }] };
"""
_WAIT_MILLISECONDS = 90_000


class _Site(http.server.SimpleHTTPRequestHandler):
    """OHIF's files, its routes, and Orthanc's DICOMweb behind the same origin."""

    orthanc: ClassVar[str]

    def do_GET(self) -> None:
        if self.path.startswith("/dicom-web"):
            self._proxied()
            return
        if not Path(self.translate_path(self.path)).is_file():
            self.path = "/index.html"
        super().do_GET()

    def _proxied(self) -> None:
        asked = urllib.request.Request(self.orthanc + self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            status, kind, body = error.code, "text/plain", error.read()
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def stored(folder: Path, orthanc: Orthanc) -> dict[str, str]:
    """Score, report and store a study; returns the pictures' series and instances."""
    folder.mkdir()
    sources = []
    for number, view in enumerate(("subcostal", "intercostal", "liver-kidney"), 1):
        ds = image(number, phantom(view, fat=19.0, seed=3).pixels, StudyDate="20261120", StudyTime="101500")
        ds.PatientSex, ds.PatientBirthDate, ds.SeriesNumber, ds.InstanceNumber = "O", "", 1, number
        ds.StudyDescription, ds.AccessionNumber = "US ABDOMEN", "ACC1"
        sources.append(saved(ds, folder, ExplicitVRLittleEndian))
    outcome, pictures = score_study(sources, Predictor.open(BUNDLE), ScoreLimits(min_views=1, max_views=8))
    asked = ReportRequest(
        result_key="ab" * 32, outcome=outcome, pictures=pictures, evidence=tuple(path for _, path in sources),
        content_at=CONTENT_AT, predecessor=None, study_instance_uid=STUDY,
    )  # fmt: skip
    made = build_report(asked)
    for content in (*(path.read_bytes() for _, path in sources), *(one.encoded for one in made)):
        orthanc.store(content)
    return {
        f"{one.kind}-{one.index}": f"initialSeriesInstanceUID={one.series_instance_uid}"
        f"&initialSOPInstanceUID={one.sop_instance_uid}"
        for one in made[1:]
    }


def main(dist: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = folder / "site"
        shutil.copytree(dist, site)
        (site / "app-config.js").write_text(_CONFIG)
        options = {"Plugins": [_PLUGIN], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
        with Orthanc(folder, options=options) as orthanc:
            pictures = stored(folder / "sources", orthanc)
            _Site.orthanc = orthanc.http_url
            server = http.server.ThreadingHTTPServer(
                ("127.0.0.1", 0), lambda *a, **k: _Site(*a, directory=str(site), **k)
            )
            threading.Thread(target=server.serve_forever, daemon=True).start()
            base = f"http://127.0.0.1:{server.server_port}"
            for title, place in pictures.items():
                address = f"{base}/viewer?StudyInstanceUIDs={STUDY}&{place}"
                screenshot(address, out / f"{title}.png", folder)
            server.shutdown()
    print(*sorted(str(path) for path in out.iterdir()))


def screenshot(address: str, path: Path, folder: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("chromium is not installed")
    subprocess.run(
        [
            chromium, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1600,1000",
            "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
            f"--user-data-dir={folder / path.stem}", f"--timeout={_WAIT_MILLISECONDS}",
            f"--virtual-time-budget={_WAIT_MILLISECONDS}", f"--screenshot={path}", address,
        ],
        check=True, timeout=400, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
