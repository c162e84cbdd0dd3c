"""The command line, one file a verb. It speaks HTTP only; `up` and `down` start and end the server itself."""
