"""The subcommands of `rlhf`: each module has `main(argv)`."""
