"""The sources' ways against ours, on the same data and in one run: `python -m benchmarks --help`.

`source`, `ours` and `repository` hold what is measured, `suite` says which of them belong together and what is aimed
at, `child` runs one of them in a process of its own, `measure` runs them all in turn, and `report` makes medians,
ratios and tables of it.
"""
