"""Files that can be made again: the cache, rows on disk, checkpoints, a copy of the cache at an address."""
