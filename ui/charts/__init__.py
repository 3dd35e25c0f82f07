"""Curves: axes, columns of numbers, drawing as SVG."""
