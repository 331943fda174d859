"""What all three packages stand on: errors, atomic files, records, conversations and their ids, model directories."""
