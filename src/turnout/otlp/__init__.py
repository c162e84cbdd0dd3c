"""OTLP/HTTP, as far as outcomes come by it: evaluation events in logs and traces → reports about tasks. Pure."""
