"""Recovery of jobs after crashes, and the limits for jobs that kill their processes."""
