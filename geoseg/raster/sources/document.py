"""A document on a server or a disk; servers get the headers and passwords that GDAL would send."""

from __future__ import annotations

import base64
import csv
import http.client
import netrc
import os
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from rasterio.env import getenv, hasenv

from geoseg.errors import SceneError
from geoseg.raster.names import is_same_server, shown, without_user

_MOST_BYTES = 64 << 20
_NOT_ALLOWED = {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}
_TIMEOUT_S, _TRIES, _PAUSE_S = 30, 4, 0.5
_AUTHORIZATION = "Authorization"
_SAFE = "!#$%&'()*+,/:;=?@[]"
"""Characters of an address that stay as they are; spaces and letters beyond ASCII are encoded."""


def read(name: str) -> bytes:
    """Return what a document holds. SceneError, without secrets, if it cannot be read."""
    try:
        return _fetched(name) if name.startswith(("http://", "https://")) else Path(name).read_bytes()
    except urllib.error.HTTPError as error:
        way_out = "check the address" + (" and the credentials" if error.code in _NOT_ALLOWED else "")
        way_out = "try again later" if _may_pass(error) else way_out
        raise SceneError(f"cannot read {shown(name)}: HTTP status {error.code}; {way_out}") from None
    except ValueError:  # its message may hold a token
        raise SceneError(
            f"cannot read {shown(name)}: it is no valid address, or GDAL_HTTP_HEADERS or GDAL_HTTP_BEARER is no valid "
            "header; check the address and these settings"
        ) from None
    except (OSError, http.client.HTTPException, zlib.error) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SceneError(f"cannot read {shown(name)}: {reason}; check the address") from None


def _fetched(address: str) -> bytes:
    """Return a server's response; retry while it is busy, or if the connection is lost."""
    headers = {"Accept": "application/geo+json, application/json"}
    user, address = without_user(address)
    request = urllib.request.Request(quote(address, safe=_SAFE), headers=headers)  # noqa: S310 - http(s) only
    for name, value in _given_headers(unquote(user), request.host).items():
        request.add_unredirected_header(name, value)
    for trial in range(1, _TRIES + 1):
        try:
            return _answer(request)
        except (OSError, http.client.IncompleteRead) as error:
            if trial == _TRIES or not _may_pass(error):
                raise
        time.sleep(_PAUSE_S * 2**trial)
    raise AssertionError


def _given_headers(user: str, host: str) -> dict[str, str]:
    """Return the headers and the password that GDAL would send: of the address, of its settings, or of a .netrc file.

    https://gdal.org/en/stable/user/configoptions.html#networking-options
    """
    settings: dict[str, Any] = {**os.environ, **(getenv() if hasenv() else {})}
    text = str(settings.get("GDAL_HTTP_HEADERS", ""))
    is_list = not {"\n", "\r"} & set(text)
    lines = next(csv.reader([text], skipinitialspace=True), []) if is_list else text.splitlines()
    with suppress(OSError, ValueError):
        lines += Path(str(settings.get("GDAL_HTTP_HEADER_FILE", ""))).read_text(encoding="utf-8").splitlines()
    fields = (map(str.strip, line.partition(":")[::2]) for line in lines if ":" in line)
    headers = {name.capitalize(): value for name, value in fields}
    is_bearer = str(settings.get("GDAL_HTTP_AUTH")).upper() == "BEARER"
    if is_bearer and not user:
        headers.setdefault(_AUTHORIZATION, f"Bearer {str(settings.get('GDAL_HTTP_BEARER', '')).strip()}")
    elif user := user or str(settings.get("GDAL_HTTP_USERPWD", "")) or _of_netrc(settings, host):
        headers.setdefault(_AUTHORIZATION, f"Basic {base64.b64encode(user.encode()).decode()}")
    return headers


def _of_netrc(settings: Mapping[str, Any], host: str) -> str:
    """Return the user and password of a server in the .netrc file; empty if there are none."""
    if str(settings.get("GDAL_HTTP_NETRC", "YES")).upper() not in {"YES", "TRUE", "ON", "1"}:
        return ""
    with suppress(OSError, ValueError, netrc.NetrcParseError):
        file = settings.get("GDAL_HTTP_NETRC_FILE") or Path.home() / ".netrc"
        found = netrc.netrc(str(file)).authenticators(urlsplit(f"//{host}").hostname or "")
        return f"{found[0]}:{found[2]}" if found else ""
    return ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects, with passwords and other headers of the user only to the server they are for."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - as the base class has it
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and is_same_server(req.full_url, newurl):
            following.unredirected_hdrs = {**req.unredirected_hdrs, "Host": following.host}
        return following


def _answer(request: urllib.request.Request) -> bytes:
    with urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT_S) as answer:
        text: bytes = answer.read(_MOST_BYTES)
        if answer.length and len(text) < _MOST_BYTES:  # `read` returns less if the connection is lost
            raise http.client.IncompleteRead(text, answer.length)
        if answer.headers.get("Content-Encoding") == "gzip":  # some servers send it unasked
            text = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(text, _MOST_BYTES)
        return text


def _may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code == http.HTTPStatus.TOO_MANY_REQUESTS
    return isinstance(getattr(error, "reason", error), ConnectionResetError | http.client.IncompleteRead)
