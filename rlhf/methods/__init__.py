"""Other ways from the same labels to a policy, each kept as a ladder along KL like PPO's: what PPO is compared with."""
