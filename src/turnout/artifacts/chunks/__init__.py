"""The data component, cut by content: a small change to a large index moves and stores only the chunks that changed."""
