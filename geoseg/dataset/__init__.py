"""Labelled scenes: what a network learns from, and is examined on."""
