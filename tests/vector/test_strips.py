"""The strip height changes nothing: the same features in the same order, bit for bit."""

from __future__ import annotations
