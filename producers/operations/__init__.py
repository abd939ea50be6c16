"""The state of a stack: examined once by checks, and measured for Prometheus."""
