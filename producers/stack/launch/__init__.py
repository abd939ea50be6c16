"""The surroundings of the processes of ``scoring up``: checks before the start, environment, output and stop signals."""
