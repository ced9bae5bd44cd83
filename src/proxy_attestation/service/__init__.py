"""The proxy's processes: supervisor, workers with their gRPC and Connect fronts, one core under both."""
