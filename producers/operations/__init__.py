"""Whether a stack is well: asked for once, and measured for Prometheus."""
