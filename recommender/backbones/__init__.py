"""What reads a history: one small interface, several networks."""
