"""Judges that predict numbers: FGA-BLIP2 and score heads on vision-language models."""
