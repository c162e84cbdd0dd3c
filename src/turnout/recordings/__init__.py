"""Where the documents of recordings lie."""
