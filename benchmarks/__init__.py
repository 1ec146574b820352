"""How fast reprise is, as ratios to the straightforward code: `make bench`."""
