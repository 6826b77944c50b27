"""LEADERBOARD.md, tables for terminals, LaTeX, exports, and checks of what is published."""
