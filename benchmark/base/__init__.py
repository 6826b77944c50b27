"""What knows nothing of the subject: errors, files, hashes, seeds, versions, the process."""
