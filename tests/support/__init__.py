"""Parts that tests share: a Bedrock endpoint on this machine, and cassettes of Bedrock calls."""
