"""The version of geoseg, written once; the wheel takes it from here."""

VERSION = "0.1.0"
