"""HTTP: published and computed rates, one by one or in groups, with the digits of a score job."""
