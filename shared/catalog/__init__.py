"""What the bucket holds, for both sides of the queue: the one reader of each kind of manifest."""
