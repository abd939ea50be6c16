"""The picture of what the guard found: one self-contained page, ``guard.html``, beside the verdict of a held or warned result."""
