"""What people do with releases: promote, retire, sign, compare, keep."""
