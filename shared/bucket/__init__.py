"""Storage: one interface, implemented by a local folder and by object stores."""
