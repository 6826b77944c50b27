"""The page: one self-contained HTML file of a suite's results and of those beside it."""
