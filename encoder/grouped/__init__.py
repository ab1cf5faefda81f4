"""Weights to elements and scales of the grouped formats: rounding, and the search for scales.

- `rounding`: numbers to the nearest element of a kind
- `search`: scales by the formats' own rules, and those with the smallest squared error
"""
