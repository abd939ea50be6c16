"""The server: protocol, limits, tokens, errors and logs; knows no particular route."""
