"""What a run would take of a device's memory, told before anyone rents it."""
