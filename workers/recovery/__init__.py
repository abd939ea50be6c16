"""Recovery of jobs after a process has died, and the limits for jobs that kill their processes."""
