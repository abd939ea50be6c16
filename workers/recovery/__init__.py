"""What puts jobs back on their way after a process died, and what ends those that kill their processes."""
