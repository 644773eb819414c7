"""What an operator sees of requests: log lines, an access log, metrics, spans."""
