"""Airports of the world, as five releases of a real data set tell them."""
