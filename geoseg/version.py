"""The version of geoseg, defined once; the wheel reads it from here."""

VERSION = "0.1.0"
