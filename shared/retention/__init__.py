"""What is removed when: the rules, what they say about each thing in the bucket, and the removal in two steps."""
