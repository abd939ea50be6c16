"""A train job: fitted, judged, published as a release. Knows no queue."""
