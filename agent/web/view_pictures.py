"""Pictures of a study: each kept view, the map over it as a transparent layer, and the summary as it was sent."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agent.domain.identifiers import is_uid
from agent.store.layout import Layout
from agent.store.result_files import LostPicturesError, ViewPicture, object_path, read_view_pictures
from agent.web.session import Session
from agent.worklist import reading
from agent.worklist.ledger import Ledger

_STOPS: Final = np.array(
    [
        (0.0, 87, 16, 110),
        (0.25, 159, 42, 99),
        (0.5, 212, 72, 66),
        (0.75, 245, 125, 21),
        (0.9, 250, 193, 39),
        (1.0, 252, 255, 164),
    ]
)
"""Points of inferno from its first quarter on: lightness only rises, and its near black would hide tissue."""
_FLOOR: Final = 0.15
"""Below this share of the picture's maximum nothing is drawn."""


class ViewPictures:
    """Answers `/studies/{uid}/views/{number}/…` and `/studies/{uid}/summary.png`."""

    def __init__(self, ledger: Ledger, layout: Layout, session: Session) -> None:
        self._ledger, self._layout, self._session = ledger, layout, session

    def source(self, request: Request) -> Response:
        """One used view, its pixels as they were scored; which were used is withheld with the result."""
        picture = None if self._is_hidden(request) else self._picture(request)
        return _absent() if picture is None else _png(picture.source)

    def overlay(self, request: Request) -> Response:
        """Where the model looked in it: transparent outside the ultrasound sector and below the floor."""
        picture = None if self._is_hidden(request) else self._picture(request)
        return _absent() if picture is None else _png(_layer(picture))

    def summary(self, request: Request) -> Response:
        """Show the summary, drawn from the object that was sent."""
        uid = request.path_params["uid"]
        if self._is_hidden(request):
            return _absent()
        made = reading.newest_object(self._ledger, uid, "summary") if is_uid(uid) else None
        path = None if made is None else object_path(self._layout, *made)
        if path is None or not path.exists():
            return _absent()
        return _png(dcmread(path).pixel_array)

    def _is_hidden(self, request: Request) -> bool:
        uid = request.path_params["uid"]
        return not self._session.is_unblinded(request) and is_uid(uid) and reading.is_hidden(self._ledger, uid)

    def _picture(self, request: Request) -> ViewPicture | None:
        uid, number = request.path_params["uid"], request.path_params["number"]
        key = reading.newest_scored_key(self._ledger, uid) if is_uid(uid) else None
        try:
            pictures = () if key is None else read_view_pictures(self._layout, key)
        except (FileNotFoundError, LostPicturesError):
            return None
        return pictures[number] if number < len(pictures) else None


def _layer(picture: ViewPicture) -> NDArray[np.uint8]:
    """Colour a map: [h, w, 4], opaque where it is drawn; the page sets how strong it shows."""
    share = picture.saliency
    colours = [np.interp(share, _STOPS[:, 0], _STOPS[:, channel]) for channel in (1, 2, 3)]
    drawn = picture.sector & (share >= _FLOOR)
    return np.stack([*colours, np.where(drawn, 255, 0)], axis=-1).round().astype(np.uint8)


def _png(pixels: NDArray[Any]) -> Response:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return Response(buffer.getvalue(), media_type="image/png")


def _absent() -> Response:
    return PlainTextResponse("no such picture", 404)
