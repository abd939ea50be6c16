"""What people are told: composed, delivered, and tried again."""
