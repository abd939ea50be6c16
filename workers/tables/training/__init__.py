"""Tables to train on: read whole, with labels, and audited."""
