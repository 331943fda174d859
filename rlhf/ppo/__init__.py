"""Rewards become a policy: rollout, objective, KL, controller, ladder, state."""
