"""Pretrained weights are fetched by other libraries; here it is made sure that they fail soon and in silence."""

from __future__ import annotations

import contextlib
import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator

from huggingface_hub import constants

_LOGGERS = ("huggingface_hub", "timm")


@contextlib.contextmanager
def fetching() -> Iterator[None]:
    """Let weights be fetched inside; where their host is unknown, only those kept on this machine are looked for.

    The library itself tries six times in 23 s and writes a line about each. OSError says what is missing.
    """
    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname or ""
    offline = constants.HF_HUB_OFFLINE or not _is_known(host)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers], constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except OSError:  # what is raised for a file that is nowhere is a child of it
        if offline:
            raise OSError(f"they are not kept on this machine and {host} cannot be reached") from None
        raise
    finally:
        levels, constants.HF_HUB_OFFLINE = before
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_known(host: str) -> bool:
    """Tell whether the host has an address; behind a proxy only the proxy knows, so it is believed."""
    if {"http", "https", "all"} & set(urllib.request.getproxies()):
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
