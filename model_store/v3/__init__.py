"""Boosted trees as a first guess, corrected by what the keyword itself has done; tells how sure it is."""
