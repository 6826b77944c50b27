"""One file per data set family; each registers its tasks."""
