"""Imagery with labels: what a network learns from, and what it is judged by."""
