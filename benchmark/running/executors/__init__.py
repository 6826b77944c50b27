"""Where units are done: in this process, in processes beside it, on a cluster."""
