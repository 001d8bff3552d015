"""Examples, rebalancing, supervised fine-tuning, GRPO, rewards and adapters of a student judge."""
