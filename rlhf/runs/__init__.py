"""What a run leaves behind: its files, how they are written, read, and known to be unchanged."""
