"""What is served: a release and the result of a channel, exchanged together while requests are answered."""
