"""Use cases, one file a noun. They write what is wanted, with its event, in one transaction; the controller acts."""
