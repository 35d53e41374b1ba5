"""What recording costs, as ratios measured in one interleaved run. Absolute times mean nothing on a shared machine."""
